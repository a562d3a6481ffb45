package caddymodule

import "testing"

func TestATroubleIsToldOnceWhenItBeginsAndOnceWhenItEnds(t *testing.T) {
	var all troubles
	for range 2 {
		if all.ended("a") {
			t.Error("what has not begun has ended")
		}
		if !all.failed("a") || all.failed("a") || all.failed("a") {
			t.Error("not the first of a row is told")
		}
		if all.ended("b") || !all.failed("b") || !all.ended("b") {
			t.Error("another one is taken for it")
		}
		if !all.ended("a") || all.ended("a") {
			t.Error("not the end of a row is told")
		}
	}
}
