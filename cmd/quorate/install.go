package main

import (
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"
)

// newInstall is for init containers: the image holds nothing that could copy a file.
func newInstall() *cobra.Command {
	return &cobra.Command{
		Use:   "install PATH",
		Short: "Copy this program to PATH, e.g. from an init container into the volume of another one",
		Args:  cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			self, err := os.Executable()
			if err != nil {
				return fmt.Errorf("find this program: %w", err)
			}
			return copyProgram(self, args[0])
		},
	}
}

// copyProgram copies beside the target first, so that nobody ever runs half of it.
func copyProgram(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return fmt.Errorf("install: %w", err)
	}
	defer in.Close()
	next := to + ".next"
	out, err := os.OpenFile(next, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o755)
	if err != nil {
		return fmt.Errorf("install: %w", err)
	}
	if _, err := io.Copy(out, in); err != nil {
		_ = out.Close()
		return fmt.Errorf("install: %w", err)
	}
	if err := out.Close(); err != nil {
		return fmt.Errorf("install: %w", err)
	}
	if err := os.Rename(next, to); err != nil {
		return fmt.Errorf("install: %w", err)
	}
	return nil
}
