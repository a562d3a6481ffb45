package caddymodule

import (
	"encoding/json"
	"testing"

	"github.com/caddyserver/caddy/v2"
)

func TestAConfigurationWithANullStoreIsRefusedAndNoPanic(t *testing.T) {
	err := caddy.Validate(&caddy.Config{AppsRaw: caddy.ModuleMap{"audit_log": json.RawMessage(`{"stores":[null]}`)}})
	if err == nil {
		t.Error("it was taken")
	}
}
