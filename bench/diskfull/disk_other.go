//go:build !linux

package main

import (
	"context"
	"errors"
)

var errNoDisk = errors.New("it is made with ext4 on a loop device, which needs Linux")

func canMount() error { return errNoDisk }

type smallDisk struct{ dir string }

func newDisk(string, int) (*smallDisk, error) { return nil, errNoDisk }

func (*smallDisk) press(context.Context) error { return errNoDisk }
func (*smallDisk) release() error              { return nil }
func (*smallDisk) close() error                { return nil }
