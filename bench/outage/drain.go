package main

import (
	"context"
	"errors"
)

type pace struct{}

func (o options) drain(ctx context.Context, stores []string, dir string) ([]*pace, error) {
	return nil, errors.New("not yet")
}
