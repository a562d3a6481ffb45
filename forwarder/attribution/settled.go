package attribution

import "github.com/caddy-audit-log/caddy-audit-log/audit"

// Settled is Stamp for good: what is not known by now stays unknown.
func (d *Directory) Settled(e *audit.Entry) audit.Stamp {
	d.mu.Lock()
	defer d.mu.Unlock()
	s, _ := d.stamp(e, true)
	return s
}
