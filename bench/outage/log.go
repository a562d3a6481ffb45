package main

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
)

// line is one of the build's log.
type line struct {
	Message string `json:"msg"`
	Store   string `json:"store"`
}

// The log lines of a store's failure.
const (
	saysFailing   = "store is failing"
	saysRecovered = "store has recovered"
)

// logged counts the lines that tell of failures, per store.
func (s *stage) logged() error {
	b, err := os.ReadFile(s.site.LogPath())
	if err != nil {
		return fmt.Errorf("reading the build's log: %w", err)
	}
	s.Logged = map[string][2]int{}
	for text := range strings.Lines(string(b)) {
		var l line
		if json.Unmarshal([]byte(text), &l) != nil || l.Store == "" {
			continue
		}
		n := s.Logged[l.Store]
		if strings.HasPrefix(l.Message, saysFailing) {
			n[0]++
		}
		if strings.HasPrefix(l.Message, saysRecovered) {
			n[1]++
		}
		s.Logged[l.Store] = n
	}
	return nil
}

// tells wants one line at the begin and one at the end of the failure of a store, and
// none of another's. Where a store has several streams, each elects its own leader after
// an outage: what one takes already another may still refuse, so that each can be told.
func (s *stage) tells(failed string) {
	for _, of := range s.stores {
		least, most := 0, 0
		if of.name() == failed {
			least, most = 1, 1
			if n, ok := of.(*natsStore); ok {
				most = n.streams
			}
		}
		if got := s.Logged[of.name()]; got[0] != got[1] || got[0] < least || got[0] > most {
			s.Note(&s.WrongLog, "the log tells %d times that store %s began to fail and %d times that it recovered, not %d to %d times of both", got[0], of.name(), got[1], least, most)
		}
	}
}
