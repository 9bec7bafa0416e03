// Package fastpath repeats cached and registry answers on plain UDP listeners without
// the plugin chain.
//
// Flow: the loader shows each server block ([Observe]) -> at start each block's chain is
// audited, and each listener -> when a listener's server starts, the engine
// (internal/fastpath) takes its packets -> what it has not learnt goes through the
// server's chain as ever -> the handler here, just above prometheus, notes what the chain
// wrote -> the engine learns it where the verdict says so.
//
// It is in every block, without being written; `fastpath off` turns a block off. It makes
// no answer and changes none.
package fastpath
