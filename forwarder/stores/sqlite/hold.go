package sqlite

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/caddy-audit-log/caddy-audit-log/forwarder"
)

// SetHold implements forwarder.Keeper. A hold that selects everything is refused.
func (s *Store) SetHold(ctx context.Context, h forwarder.Hold) error {
	err := s.turn.take(ctx)
	if err == nil {
		defer s.turn.give()
		err = s.setHold(&h)
	}
	if err != nil {
		return fmt.Errorf("setting hold %q in audit store %q: %w%s", h.ID, s.path, err, cure(err))
	}
	return nil
}

func (s *Store) setHold(h *forwarder.Hold) error {
	switch {
	case s.closed:
		return errClosed
	case h.ID == "":
		return errors.New("it has no id: name it")
	case h.Organization == "" && h.Actor == "" && h.From.IsZero() && h.To.IsZero():
		return errors.New("it selects everything: give it an organization, an actor or a time")
	}
	b, err := json.Marshal(h)
	if err != nil {
		return err
	}
	c, err := s.begin()
	if err != nil {
		return err
	}
	defer c.rollback()
	// What the one before has kept, this one may not.
	if err := c.endHold(h.ID); err != nil {
		return err
	}
	if _, err := c.tx.Exec(`INSERT INTO hold (id, since, hold) VALUES (?, ?, ?)`, h.ID, h.Since.UnixMicro(), string(b)); err != nil {
		return err
	}
	return c.commit()
}

// ReleaseHold implements forwarder.Keeper. What it has kept is asked again by the next
// steps of pruning.
func (s *Store) ReleaseHold(ctx context.Context, id string) error {
	err := s.turn.take(ctx)
	if err == nil {
		defer s.turn.give()
		err = s.releaseHold(id)
	}
	if err != nil {
		return fmt.Errorf("releasing hold %q of audit store %q: %w%s", id, s.path, err, cure(err))
	}
	return nil
}

func (s *Store) releaseHold(id string) error {
	if s.closed {
		return errClosed
	}
	c, err := s.begin()
	if err != nil {
		return err
	}
	defer c.rollback()
	if err := c.endHold(id); err != nil {
		return err
	}
	return c.commit()
}

// endHold takes a hold away, if it is there, and makes the marks old that it has left.
func (c *change) endHold(id string) error {
	result, err := c.tx.Exec(`DELETE FROM hold WHERE id = ?`, id)
	if err != nil {
		return err
	}
	if n, err := result.RowsAffected(); err != nil || n == 0 {
		return err
	}
	_, err = c.tx.Exec(`INSERT INTO state (name, value) VALUES (?, 1) ON CONFLICT (name) DO UPDATE SET value = value + 1`, stateReleased)
	return err
}
