package forwarder

import (
	"testing"
	"time"
)

// jump makes the clock believe that its wall clock has been set ahead by d.
func (c *trustedClock) jump(d time.Duration) { c.passing = c.passing.Add(d) }

func TestAClockThatKeepsItsTimeIsBelieved(t *testing.T) {
	start := time.Now()
	c := newTrustedClock(start, start.Add(-time.Hour))
	for _, passed := range []time.Duration{0, time.Minute, 24 * time.Hour, 400 * 24 * time.Hour} {
		got, ahead := c.now(start.Add(passed))
		if !got.Equal(start.Add(passed)) || ahead != 0 {
			t.Errorf("after %s: %s, %s ahead", passed, got, ahead)
		}
	}
}

func TestAJumpAheadIsNotBelievedForADay(t *testing.T) {
	start := time.Now()
	c := newTrustedClock(start, time.Time{})
	c.jump(48 * time.Hour) // from here on 48 h more have gone by on the wall
	at := start.Add(48*time.Hour + time.Minute)
	if got, ahead := c.now(at); !got.Equal(start.Add(time.Minute).Round(0)) || ahead != 48*time.Hour {
		t.Errorf("at once: %s behind, %s ahead", at.Sub(got), ahead)
	}
	at = at.Add(23 * time.Hour)
	if got, ahead := c.now(at); at.Sub(got) != 48*time.Hour || ahead != 48*time.Hour {
		t.Errorf("after 23 h: %s behind, %s ahead", at.Sub(got), ahead)
	}
	at = at.Add(time.Hour)
	if got, ahead := c.now(at); !got.Equal(at) || ahead != 0 {
		t.Errorf("after a day: %s behind, %s ahead", at.Sub(got), ahead)
	}
}

func TestAJumpThatIsTakenBackIsForgotten(t *testing.T) {
	start := time.Now()
	c := newTrustedClock(start, time.Time{})
	c.jump(time.Hour)
	c.now(start.Add(time.Hour))
	c.jump(-time.Hour)
	at := start.Add(time.Minute)
	if got, ahead := c.now(at); !got.Equal(at) || ahead != 0 {
		t.Errorf("%s behind, %s ahead", at.Sub(got), ahead)
	}
}

func TestAJumpBackIsBelievedAtOnce(t *testing.T) {
	start := time.Now()
	c := newTrustedClock(start, time.Time{})
	c.jump(-time.Hour)
	at := start.Add(-time.Hour + time.Minute)
	if got, ahead := c.now(at); !got.Equal(at) || ahead != 0 {
		t.Errorf("%s behind, %s ahead", at.Sub(got), ahead)
	}
}

func TestALongAbsenceIsAJump(t *testing.T) {
	start := time.Now()
	c := newTrustedClock(start, start.Add(-10*365*24*time.Hour))
	if got, ahead := c.now(start); !got.Equal(start.Add(-10*365*24*time.Hour)) || ahead == 0 {
		t.Errorf("%s, %s ahead", got, ahead)
	}
	if got, ahead := c.now(start.Add(24 * time.Hour)); !got.Equal(start.Add(24*time.Hour)) || ahead != 0 {
		t.Errorf("after a day: %s, %s ahead", got, ahead)
	}
	for _, short := range []time.Duration{-time.Hour, 0, 6 * 24 * time.Hour} {
		c := newTrustedClock(start, start.Add(-short))
		if _, ahead := c.now(start); ahead != 0 {
			t.Errorf("away for %s: %s ahead", short, ahead)
		}
	}
}
