package store

import (
	"fmt"

	"github.com/google/renameio/v2"
)

// writeFile replaces the file in one step, and has it on disk when it returns.
func writeFile(name string, b []byte) error {
	if err := renameio.WriteFile(name, b, 0o600); err != nil {
		return fmt.Errorf("store: %w", err)
	}
	return nil
}
