package listenlock

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"time"
)

// maxHolder bounds what is read of a lock file, in octets.
const maxHolder = 4096

// Holder is who holds a lock.
type Holder struct {
	PID     int       `json:"pid"`
	Command string    `json:"command"`
	Since   time.Time `json:"since"`
}

// String is as in "pid 12 (resolverd run, since 2026-01-02 15:04:05)".
func (h Holder) String() string {
	if h.PID == 0 {
		return "a process that did not say who it is"
	}
	return fmt.Sprintf("pid %d (%s, since %s)", h.PID, h.Command, h.Since.Local().Format(time.DateTime))
}

// Held is the error of a lock that another process holds.
type Held struct {
	What   string // "address 127.0.0.1:53" or "data directory /var/lib/resolverd"
	Holder Holder
}

// Error says what is held, and by whom.
func (h *Held) Error() string {
	return fmt.Sprintf("%s is in use by another resolverd: %s", h.What, h.Holder)
}

// Hint says what to do.
func (h *Held) Hint() string {
	if h.Holder.PID == 0 {
		return "stop the other one, or give this one other addresses and another --data-dir"
	}
	if h.Holder.Command == "resolverd answer" {
		// Killed alone, the answerer would be started again by its supervisor.
		return fmt.Sprintf("stop it (systemctl stop resolverd, or end the `resolverd run` above pid %d), or give this one other addresses and another --data-dir", h.Holder.PID)
	}
	return fmt.Sprintf("stop it (kill %d, or systemctl stop resolverd), or give this one other addresses and another --data-dir", h.Holder.PID)
}

func readHolder(f *os.File) Holder {
	var h Holder
	b, err := io.ReadAll(io.NewSectionReader(f, 0, maxHolder))
	if err != nil || json.Unmarshal(b, &h) != nil {
		return Holder{}
	}
	return h
}

func writeHolder(f *os.File, command string, now time.Time) error {
	b, err := json.Marshal(Holder{PID: os.Getpid(), Command: command, Since: now})
	if err != nil {
		return err
	}
	if err := f.Truncate(0); err != nil {
		return err
	}
	_, err = f.WriteAt(append(b, '\n'), 0)
	return err
}
