package storetest

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/caddy-audit-log/caddy-audit-log/forwarder"
)

// secretCases are about what a store says. Errors and the log are searched for
// credentials in every other case too.
var secretCases = []testCase{
	{"what a store says of itself is the same at all times, and no secret", func(s *subject) {
		want := s.Opener.Describe()
		if want.Kind == "" || want.Location == "" {
			s.Errorf("describing the store: %+v has no kind or no location", want)
		}
		switch want.Delivery {
		case forwarder.DeliveryOnce, forwarder.DeliveryAtLeastOnce, forwarder.DeliveryUnacknowledged:
		default:
			s.Errorf("describing the store: delivery %q is no class", want.Delivery)
		}
		s.searchFor("Describe", fmt.Sprintf("%+v", want))
		same := func(when string, got forwarder.Description) {
			s.Helper()
			if diff := cmp.Diff(want, got); diff != "" {
				s.Errorf("describing the store %s (-opener, before it was opened +now):\n%s", when, diff)
			}
		}
		store := s.store
		same("when it is open", store.Describe())
		s.write(records(s, 1, 5))
		same("after a write", store.Describe())
		if s.Break != nil {
			mend := s.Break()
			same("while it is down", store.Describe())
			same("by its opener, while it is down", s.Opener.Describe())
			mend()
		}
		s.close()
		same("after it was closed", store.Describe())
		s.open()
		same("after a restart", s.store.Describe())
		for what, v := range map[string]any{"the opener": s.Opener, "the store": s.store} {
			if text, ok := v.(fmt.Stringer); ok {
				s.searchFor("String of "+what, text.String())
			}
		}
		// Caddy keeps a configuration as JSON and shows it.
		if b, err := json.Marshal(s.Opener); err == nil {
			s.searchFor("the opener's JSON", string(b))
		}
	}},
	{"no error and no line of the log holds a credential", func(s *subject) {
		s.need("a credential in Target.Credentials", len(s.Credentials) > 0)
		batch := records(s, 1, 10)
		s.write(batch)
		s.disturbed = true
		if s.Refuse != nil {
			accept := s.Refuse("")
			_ = s.try(context.Background(), batch)
			accept()
		}
		if s.Cut != nil {
			s.Cut()
			_ = s.try(context.Background(), batch)
		}
		s.deliver(batch)
		if s.Slow != nil {
			fast := s.Slow(2 * s.o.patience)
			ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
			_ = s.try(ctx, batch)
			cancel()
			fast()
		}
		if s.Break == nil {
			return
		}
		mend := s.Break()
		defer mend()
		_ = s.try(context.Background(), batch)
		s.close()
		if s.tryOpen() == nil {
			_ = s.try(context.Background(), batch)
		}
		ctx, cancel := context.WithTimeout(context.Background(), s.o.patience)
		defer cancel()
		if p, ok := s.Opener.(forwarder.ProbeOpener); ok {
			s.searchFor("an error of Probe", fmt.Sprint(p.Probe(ctx, batch[0])))
		}
		if o, ok := s.Opener.(forwarder.ReaderOpener); ok {
			r, err := o.OpenReader(ctx)
			s.searchFor("an error of OpenReader", fmt.Sprint(err))
			if err == nil {
				for _, err := range r.Read(ctx, forwarder.Query{}) {
					s.searchFor("an error of Read", fmt.Sprint(err))
				}
				r.Close()
			}
		}
	}},
}
