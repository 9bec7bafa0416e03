package consul

import (
	"fmt"
	"os"
	"testing"

	"go.uber.org/goleak"

	"github.com/resolverd/resolverd/internal/resident"
)

func TestMain(m *testing.M) {
	code := m.Run()
	for _, err := range resident.Shutdown() {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	if code == 0 {
		if err := goleak.Find(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	os.Exit(code)
}
