// Package bulk adds observations to prometheus histograms at a fraction of their price:
// where many queries are answered at once, to observe each would cost as much as to
// answer it.
//
// A [Vec] takes the place of a prometheus.HistogramVec in the registry. What is observed
// through the vector itself, and what comes through a [Series] of the Vec, is one
// histogram when it is collected, in classic and in native buckets. Whoever has a thread
// of its own collects in [Counts], without a lock, and adds them to the Series now and
// then.
//
// It observes no exemplars and no values below 0 in bulk.
package bulk
