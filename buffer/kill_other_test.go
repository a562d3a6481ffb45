//go:build !unix

package buffer

func victim(string) {}

func killedAt(string, string) {}
