//go:build servers

package natstest

import "testing"

func TestAClusterAnswersAndSurvivesTheLossOfItsLeader(t *testing.T) {
	c, err := Start(t.Context(), 3, "")
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	}()
	if err := c.Kill(0); err != nil {
		t.Fatal(err)
	}
	if err := c.Ready(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := c.Up(0); err != nil {
		t.Fatal(err)
	}
}
