//go:build !unix

package buffer

func victim(string) {}
