package check

import (
	"testing"

	"github.com/compose-spec/compose-go/v2/cli"
)

func TestTheComposeFileIsOne(t *testing.T) {
	options, err := cli.NewProjectOptions([]string{"../compose/compose.yaml"}, cli.WithEnv([]string{"AUDIT_PASSWORD=planted"}))
	if err != nil {
		t.Fatal(err)
	}
	project, err := options.LoadProject(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if len(project.Services) != 5 {
		t.Errorf("it has %d services", len(project.Services))
	}
	if dsn := project.Services["audit"].Environment["AUDIT_DSN"]; dsn == nil || *dsn != "host=postgres user=audit password=planted dbname=audit sslmode=disable" {
		t.Errorf("the sidecar gets the DSN %v", dsn)
	}
}

// Without a password nothing is started with an empty one.
func TestTheComposeFileWantsAPassword(t *testing.T) {
	options, err := cli.NewProjectOptions([]string{"../compose/compose.yaml"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := options.LoadProject(t.Context()); err == nil {
		t.Error("it is loaded without a password")
	}
}
