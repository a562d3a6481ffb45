package caddymodule

import (
	"log/slog"

	"github.com/caddy-audit-log/caddy-audit-log/audit"
	"github.com/caddy-audit-log/caddy-audit-log/caddymodule/catalogs"
	"github.com/caddy-audit-log/caddy-audit-log/caddymodule/commands"
)

// provisionCatalogs puts the site's own catalogs over the platform's.
func (h *Handler) provisionCatalogs() error {
	if len(h.Catalogs) == 0 {
		return nil
	}
	platform, _, err := h.withCatalogs(&h.app.descriptions, h.log)
	if err != nil {
		return err
	}
	h.platform = platform
	return nil
}

// withCatalogs is the platform with the site's own catalogs, and what they hold.
func (h *Handler) withCatalogs(from *catalogs.Descriptions, log *slog.Logger) (*audit.Platform, []*catalogs.Content, error) {
	p, content, err := catalogs.Over(h.platform, h.Catalogs, from, log)
	if err != nil {
		return nil, nil, h.wrong("%w", err)
	}
	return p, content, nil
}

// Catalogue implements the commands' Site.
func (h *Handler) Catalogue(from *catalogs.Descriptions, log *slog.Logger) (*commands.Catalogued, error) {
	h.log = log
	if err := h.choosePlatform(); err != nil {
		return nil, err
	}
	base := h.platform
	platform, content, err := h.withCatalogs(from, log)
	if err != nil {
		return nil, err
	}
	h.platform = platform
	return &commands.Catalogued{DefinedAt: h.DefinedAt, Base: base, Platform: platform, Catalogs: len(h.Catalogs), Content: content}, h.provisionCredentials()
}

// Interface guard
var _ commands.Site = (*Handler)(nil)

// Sites implements the commands' Examined.
func (a *App) Sites() (all []*commands.Catalogued) {
	for _, h := range a.handlers {
		c := &commands.Catalogued{DefinedAt: h.DefinedAt, Base: audit.Generic(), Platform: h.platform, Catalogs: len(h.Catalogs)}
		if from := (&Handler{Platform: h.Platform}); from.choosePlatform() == nil {
			c.Base = from.platform
		}
		all = append(all, c)
	}
	return all
}
