package check

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"
)

func decoder(t *testing.T) runtime.Decoder {
	t.Helper()
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{
		appsv1.AddToScheme, batchv1.AddToScheme, corev1.AddToScheme, networkingv1.AddToScheme, policyv1.AddToScheme,
	} {
		if err := add(scheme); err != nil {
			t.Fatal(err)
		}
	}
	// Strict: a field that is misspelt, or there twice, is an error.
	return serializer.NewCodecFactory(scheme, serializer.EnableStrict).UniversalDeserializer()
}

func decode(t *testing.T, d runtime.Decoder, where string, text []byte) (objects []runtime.Object) {
	t.Helper()
	for part := range bytes.SplitSeq(text, []byte("\n---\n")) {
		if len(bytes.TrimSpace(part)) == 0 {
			continue
		}
		o, _, err := d.Decode(part, nil, nil)
		if err != nil {
			t.Errorf("%s: %v", where, err)
			continue
		}
		objects = append(objects, o)
	}
	return objects
}

func TestEachManifestIsOneOfKubernetes(t *testing.T) {
	d := decoder(t)
	files, err := filepath.Glob("../kubernetes/*/*.yaml")
	if err != nil || len(files) < 8 {
		t.Fatalf("%d files, %v", len(files), err)
	}
	for _, file := range files {
		if filepath.Base(file) == "kustomization.yaml" {
			continue
		}
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if len(decode(t, d, file, text)) == 0 {
			t.Errorf("%s: nothing is in it", file)
		}
	}
}

func TestEachShapeIsBuiltByKustomize(t *testing.T) {
	d := decoder(t)
	caddyfile, err := os.ReadFile("../fleet/Caddyfile")
	if err != nil {
		t.Fatal(err)
	}
	for _, shape := range []string{"gateway", "sidecar", "adopt"} {
		built, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(filesys.MakeFsOnDisk(), "../kubernetes/"+shape)
		if err != nil {
			t.Errorf("%s: %v", shape, err)
			continue
		}
		text, err := built.AsYaml()
		if err != nil {
			t.Fatal(err)
		}
		var config string
		var pods []corev1.PodSpec
		for _, o := range decode(t, d, shape, text) {
			switch o := o.(type) {
			case *corev1.ConfigMap:
				config = o.Name
				if o.Data["Caddyfile"] != string(caddyfile) {
					t.Errorf("%s: the ConfigMap has another Caddyfile", shape)
				}
			case *appsv1.StatefulSet:
				pods = append(pods, o.Spec.Template.Spec)
			case *batchv1.Job:
				pods = append(pods, o.Spec.Template.Spec)
			}
		}
		if len(pods) != 1 || !strings.HasPrefix(config, "caddy-audit-") {
			t.Fatalf("%s: %d pods, a ConfigMap %q", shape, len(pods), config)
		}
		// A changed Caddyfile is a ConfigMap of another name, which the pods must name.
		mounted := false
		for _, v := range pods[0].Volumes {
			mounted = mounted || v.ConfigMap != nil && v.ConfigMap.Name == config
		}
		if !mounted {
			t.Errorf("%s: the pods do not mount %s", shape, config)
		}
		for _, c := range pods[0].Containers {
			if !strings.Contains(c.Image, "/") || !strings.Contains(c.Image, ":") {
				t.Errorf("%s: %s has the image %s", shape, c.Name, c.Image)
			}
		}
	}
}
