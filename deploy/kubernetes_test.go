package deploy

import (
	"bytes"
	"errors"
	"io"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/dustin/go-humanize"
	"go.yaml.in/yaml/v3"
)

// object is what these tests look at in a manifest. That there is nothing in it that
// Kubernetes does not know is looked at in check.
type object struct {
	Kind     string
	Metadata struct{ Name string }
	Spec     struct {
		Selector       yaml.Node
		ServiceName    string `yaml:"serviceName"`
		Ports          []port
		MaxUnavailable int       `yaml:"maxUnavailable"`
		PodSelector    yaml.Node `yaml:"podSelector"`
		Ingress        []struct{ Ports []struct{ Port string } }
		Template       struct {
			Metadata struct{ Labels, Annotations map[string]string }
			Spec     podSpec
		}
		PersistentVolumeClaimRetentionPolicy struct {
			WhenDeleted string `yaml:"whenDeleted"`
			WhenScaled  string `yaml:"whenScaled"`
		} `yaml:"persistentVolumeClaimRetentionPolicy"`
		VolumeClaimTemplates []struct {
			Metadata struct{ Name string }
			Spec     struct {
				AccessModes []string `yaml:"accessModes"`
				Resources   struct{ Requests struct{ Storage string } }
			}
		} `yaml:"volumeClaimTemplates"`
	}
}

type port struct {
	Name          string
	ContainerPort int    `yaml:"containerPort"`
	TargetPort    string `yaml:"targetPort"`
}

type podSpec struct {
	TerminationGracePeriodSeconds int `yaml:"terminationGracePeriodSeconds"`
	SecurityContext               map[string]any
	Containers                    []container
	Volumes                       []struct {
		Name                  string
		ConfigMap             struct{ Name string } `yaml:"configMap"`
		PersistentVolumeClaim struct {
			ClaimName string `yaml:"claimName"`
		} `yaml:"persistentVolumeClaim"`
	}
}

type container struct {
	Name, Image    string
	Args           []string
	Env            []struct{ Name, Value string }
	Ports          []port
	StartupProbe   probe `yaml:"startupProbe"`
	LivenessProbe  probe `yaml:"livenessProbe"`
	ReadinessProbe probe `yaml:"readinessProbe"`
	Lifecycle      struct {
		PreStop struct {
			Exec  struct{ Command []string }
			Sleep struct{ Seconds int }
		} `yaml:"preStop"`
	}
	SecurityContext struct {
		ReadOnlyRootFilesystem   bool  `yaml:"readOnlyRootFilesystem"`
		AllowPrivilegeEscalation *bool `yaml:"allowPrivilegeEscalation"`
		Capabilities             struct{ Drop []string }
	} `yaml:"securityContext"`
	VolumeMounts []struct {
		Name      string
		MountPath string `yaml:"mountPath"`
	} `yaml:"volumeMounts"`
}

type probe struct {
	HTTPGet struct{ Path, Port string } `yaml:"httpGet"`
}

func (c *container) env(name string) string {
	for _, e := range c.Env {
		if e.Name == name {
			return e.Value
		}
	}
	return ""
}

// objects are all in a folder of manifests, by kind.
func objects(t *testing.T, dir string) map[string][]object {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*.yaml"))
	if err != nil || len(files) == 0 {
		t.Fatalf("%s: no manifests, %v", dir, err)
	}
	all := map[string][]object{}
	for _, file := range files {
		dec := yaml.NewDecoder(bytes.NewReader([]byte(read(t, file))))
		for {
			var o object
			err := dec.Decode(&o)
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatalf("%s: %v", file, err)
			}
			all[o.Kind] = append(all[o.Kind], o)
		}
	}
	return all
}

// labels reads a selector: that of a Service is a map, others have matchLabels.
func labels(t *testing.T, node yaml.Node) map[string]string {
	t.Helper()
	var with struct {
		MatchLabels map[string]string `yaml:"matchLabels"`
	}
	var plain map[string]string
	if node.Decode(&with) == nil && with.MatchLabels != nil {
		return with.MatchLabels
	}
	if err := node.Decode(&plain); err != nil {
		t.Fatal(err)
	}
	return plain
}

func sidecar(t *testing.T, o object) *container {
	t.Helper()
	i := slices.IndexFunc(o.Spec.Template.Spec.Containers, func(c container) bool { return c.Name == "caddy-audit" })
	if i < 0 {
		t.Fatalf("%s %s has no container caddy-audit", o.Kind, o.Metadata.Name)
	}
	return &o.Spec.Template.Spec.Containers[i]
}

var shapes = []string{"kubernetes/gateway", "kubernetes/sidecar"}

func TestSelectorsFindThePodsOfTheirShape(t *testing.T) {
	for _, dir := range shapes {
		all := objects(t, dir)
		set := all["StatefulSet"][0]
		pods := set.Spec.Template.Metadata.Labels
		found := 0
		for _, kind := range []string{"StatefulSet", "Service", "PodDisruptionBudget", "NetworkPolicy"} {
			for _, o := range all[kind] {
				if o.Metadata.Name == "api-only-by-caddy-audit" && dir == "kubernetes/gateway" {
					continue // it is about the API's pods
				}
				selector := o.Spec.Selector
				if kind == "NetworkPolicy" {
					selector = o.Spec.PodSelector
				}
				want := labels(t, selector)
				for name, value := range want {
					if pods[name] != value {
						t.Errorf("%s: %s %s looks for %s=%s, the pods have %s", dir, kind, o.Metadata.Name, name, value, pods[name])
					}
				}
				if len(want) > 0 {
					found++
				}
			}
		}
		if found < 5 {
			t.Errorf("%s: %d selectors were looked at", dir, found)
		}
		if !slices.ContainsFunc(all["Service"], func(s object) bool { return s.Metadata.Name == set.Spec.ServiceName }) {
			t.Errorf("%s: there is no service %s", dir, set.Spec.ServiceName)
		}
	}
}

// The gateway's policy for the API's pods must let the gateway in, and nobody else.
func TestOnlyTheGatewayReachesTheAPI(t *testing.T) {
	pods := objects(t, "kubernetes/gateway")["StatefulSet"][0].Spec.Template.Metadata.Labels
	var policy struct {
		Spec struct {
			PolicyTypes []string `yaml:"policyTypes"`
			Ingress     []struct {
				From []struct {
					PodSelector       struct{ MatchLabels map[string]string } `yaml:"podSelector"`
					NamespaceSelector struct{ MatchLabels map[string]string } `yaml:"namespaceSelector"`
				}
			}
		}
	}
	text := strings.ReplaceAll(read(t, "kubernetes/gateway/api-networkpolicy.yaml"), "matchLabels", "matchlabels")
	if err := yaml.Unmarshal([]byte(text), &policy); err != nil {
		t.Fatal(err)
	}
	if len(policy.Spec.Ingress) != 1 || len(policy.Spec.Ingress[0].From) != 1 || !slices.Equal(policy.Spec.PolicyTypes, []string{"Ingress"}) {
		t.Fatalf("%+v", policy.Spec)
	}
	from := policy.Spec.Ingress[0].From[0]
	if !maps.Equal(from.PodSelector.MatchLabels, pods) {
		t.Errorf("it lets %v in, the gateway's pods have %v", from.PodSelector.MatchLabels, pods)
	}
	if from.NamespaceSelector.MatchLabels["kubernetes.io/metadata.name"] != "caddy-audit" {
		t.Errorf("of namespace %v", from.NamespaceSelector.MatchLabels)
	}
}

// shippedPorts are where the fleet's Caddyfile listens unless the environment says otherwise.
var shippedPorts = map[string]int{"calls": 8080, "viewer": 8081, "metrics": 9180}

func TestPortsOfManifestsAreThoseOfTheCaddyfile(t *testing.T) {
	caddyfile := read(t, "fleet/Caddyfile")
	for name, n := range map[string]string{"calls": "PORT", "viewer": "VIEWER_PORT", "metrics": "METRICS_PORT"} {
		if !strings.Contains(caddyfile, "http://:{$"+n+":"+strconv.Itoa(shippedPorts[name])+"}") {
			t.Errorf("the Caddyfile does not listen for %s at %d", name, shippedPorts[name])
		}
	}
	if !regexp.MustCompile(`(respond|audit_log_health) /healthz`).MatchString(caddyfile) {
		t.Error("the Caddyfile answers no probes")
	}
	for _, dir := range shapes {
		all := objects(t, dir)
		set := all["StatefulSet"][0]
		c := sidecar(t, set)
		named := map[string]int{}
		for _, p := range c.Ports {
			named[p.Name] = p.ContainerPort
		}
		if !maps.Equal(named, shippedPorts) {
			t.Errorf("%s: the container has %v", dir, named)
		}
		use := func(what, name string) {
			if _, ok := shippedPorts[name]; !ok {
				t.Errorf("%s: %s uses port %q", dir, what, name)
			}
		}
		for _, s := range all["Service"] {
			for _, p := range s.Spec.Ports {
				use("service "+s.Metadata.Name, p.TargetPort)
			}
		}
		for _, n := range all["NetworkPolicy"] {
			for _, rule := range n.Spec.Ingress {
				for _, p := range rule.Ports {
					if p.Port != "9000" { // the API's
						use("policy "+n.Metadata.Name, p.Port)
					}
				}
			}
		}
		for what, p := range map[string]probe{"startup": c.StartupProbe, "liveness": c.LivenessProbe, "readiness": c.ReadinessProbe} {
			use(what+" probe", p.HTTPGet.Port)
			// Of the sidecar itself, or through it of the API, which is not recorded.
			if want := map[string]string{"metrics": "/healthz", "calls": "/health"}[p.HTTPGet.Port]; p.HTTPGet.Path != want {
				t.Errorf("%s: the %s probe asks port %s for %s", dir, what, p.HTTPGet.Port, p.HTTPGet.Path)
			}
		}
		a := set.Spec.Template.Metadata.Annotations
		if a["prometheus.io/port"] != strconv.Itoa(shippedPorts["metrics"]) || a["prometheus.io/path"] != "/metrics" || a["prometheus.io/scrape"] != "true" {
			t.Errorf("%s: %v", dir, a)
		}
	}
}

func TestManifestsRunCommandsOfTheProgramWithVariablesOfTheCaddyfile(t *testing.T) {
	caddyfile := read(t, "fleet/Caddyfile")
	for _, dir := range append(slices.Clone(shapes), "kubernetes/adopt") {
		all := objects(t, dir)
		o := append(all["StatefulSet"], all["Job"]...)[0]
		c := sidecar(t, o)
		checkCommand(t, dir+": args", c.Args)
		for _, e := range c.Env {
			checkVariable(t, dir, e.Name, caddyfile)
		}
		if hook := c.Lifecycle.PreStop.Exec.Command; o.Kind == "StatefulSet" {
			if len(hook) == 0 || hook[0] != "/usr/bin/caddy" {
				t.Fatalf("%s: the hook is %v", dir, hook)
			}
			checkCommand(t, dir+": preStop", hook[1:])
		}
		// The image's user owns nothing but these.
		mounts := map[string]string{}
		for _, m := range c.VolumeMounts {
			mounts[m.MountPath] = m.Name
		}
		writable := []string{"/var/lib/caddy-audit", "/run/caddy-audit", "/tmp"}
		if o.Kind == "Job" {
			writable = []string{"/adopted", "/tmp"}
		}
		for _, path := range append(writable, "/etc/caddy") {
			if mounts[path] == "" {
				t.Errorf("%s: nothing is mounted at %s", dir, path)
			}
		}
		volumes := map[string]bool{}
		for _, v := range o.Spec.Template.Spec.Volumes {
			volumes[v.Name] = true
		}
		for _, claim := range o.Spec.VolumeClaimTemplates {
			volumes[claim.Metadata.Name] = true
		}
		for path, name := range mounts {
			if !volumes[name] {
				t.Errorf("%s: %s is of volume %s, which is not there", dir, path, name)
			}
		}
		s := c.SecurityContext
		if !s.ReadOnlyRootFilesystem || s.AllowPrivilegeEscalation == nil || *s.AllowPrivilegeEscalation || !slices.Equal(s.Capabilities.Drop, []string{"ALL"}) {
			t.Errorf("%s: its security context is %+v", dir, s)
		}
	}
}

// The hook, the calls under way, the batch in hand and the last commit all have their time,
// and in a pod the API goes on for as long as calls do.
func TestAPodIsNotKilledBeforeItsEnd(t *testing.T) {
	for _, dir := range shapes {
		set := objects(t, dir)["StatefulSet"][0]
		c := sidecar(t, set)
		hook := c.Lifecycle.PreStop.Exec.Command
		wait := hook[slices.Index(hook, "--timeout")+1]
		drain, err := time.ParseDuration(wait)
		if err != nil {
			t.Fatal(err)
		}
		calls := drain + duration(t, c.env("GRACE_PERIOD"))
		if got, need := time.Duration(set.Spec.Template.Spec.TerminationGracePeriodSeconds)*time.Second, calls+20*time.Second; got < need {
			t.Errorf("%s: it is killed after %s, and may need %s", dir, got, need)
		}
		for _, other := range set.Spec.Template.Spec.Containers {
			if sleep := time.Duration(other.Lifecycle.PreStop.Sleep.Seconds) * time.Second; other.Name != c.Name && sleep < calls {
				t.Errorf("%s: the API is stopped after %s, and gets calls for %s", dir, sleep, calls)
			}
		}
	}
}

func TestAVolumeOutlivesItsPodAndHasRoomForTheBuffer(t *testing.T) {
	for _, dir := range shapes {
		set := objects(t, dir)["StatefulSet"][0]
		if p := set.Spec.PersistentVolumeClaimRetentionPolicy; p.WhenDeleted != "Retain" || p.WhenScaled != "Retain" {
			t.Errorf("%s: %+v", dir, p)
		}
		claim := set.Spec.VolumeClaimTemplates[0]
		if !slices.Equal(claim.Spec.AccessModes, []string{"ReadWriteOncePod"}) {
			t.Errorf("%s: two pods could have the volume: %v", dir, claim.Spec.AccessModes)
		}
		bytes := func(s string) uint64 {
			n, err := humanize.ParseBytes(strings.Replace(s, "Gi", "GiB", 1))
			if err != nil {
				t.Fatal(err)
			}
			return n
		}
		room := bytes(claim.Spec.Resources.Requests.Storage)
		most := bytes(strings.TrimSuffix(sidecar(t, set).env("AUDIT_MAX_SIZE"), "B"))
		// min_free, and what bbolt's pages and the filesystem take.
		if room < most+most/5 {
			t.Errorf("%s: a volume of %s for a buffer of %s", dir, humanize.IBytes(room), humanize.IBytes(most))
		}
	}
	// The job adopts a volume of the gateway.
	gateway := objects(t, "kubernetes/gateway")["StatefulSet"][0]
	job := objects(t, "kubernetes/adopt")["Job"][0]
	prefix := gateway.Spec.VolumeClaimTemplates[0].Metadata.Name + "-" + gateway.Metadata.Name + "-"
	if claim := job.Spec.Template.Spec.Volumes[0].PersistentVolumeClaim.ClaimName; !strings.HasPrefix(claim, prefix) {
		t.Errorf("the job adopts %s, the gateway's are %s…", claim, prefix)
	}
}

// Everything that is a manifest is one: nothing in these folders is left out by the tests.
func TestEveryManifestIsRead(t *testing.T) {
	entries, err := os.ReadDir("kubernetes")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if e.IsDir() && !slices.Contains(append(slices.Clone(shapes), "kubernetes/adopt"), "kubernetes/"+e.Name()) {
			t.Errorf("no test reads kubernetes/%s", e.Name())
		}
	}
}
