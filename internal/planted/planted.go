// Package planted has credentials of many kinds, for tests that nothing of them
// is recorded. None of them was ever issued. Only tests import it.
package planted

import (
	"encoding/base64"
	"fmt"
	"math/rand/v2"
	"strings"
)

// Random gives the same text in every run.
func Random(seed string, n int, alphabet string) string {
	var key [32]byte
	copy(key[:], seed)
	r := rand.New(rand.NewChaCha8(key)) //nolint:gosec // the same in each run, on purpose
	b := make([]byte, n)
	for i := range b {
		b[i] = alphabet[r.IntN(len(alphabet))]
	}
	return string(b)
}

// The alphabets that credentials are made of.
const (
	hexDigits = "0123456789abcdef"
	Lowers    = "abcdefghijklmnopqrstuvwxyz"
	Digits    = "0123456789"
	Alnum     = Lowers + "ABCDEFGHIJKLMNOPQRSTUVWXYZ" + Digits
)

// Secret is a credential of one kind: the text that holds it, and the part of
// it that is secret.
type Secret struct{ Kind, Text, Part string }

// Shapes are recognised by their look, wherever they stand.
func Shapes() []Secret {
	var all []Secret
	for _, mark := range []struct {
		mark     string
		n        int
		alphabet string
	}{
		{"sbp_", 40, hexDigits},
		{"sbp_oauth_", 40, hexDigits},
		{"sb_secret_", 31, Alnum},
		{"AKIA", 16, "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"},
		{"ASIA", 16, "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"},
		{"", 40, Alnum + "/+"}, // a secret key of AWS
		{"ghp_", 36, Alnum},
		{"gho_", 36, Alnum},
		{"ghs_", 36, Alnum},
		{"ghu_", 36, Alnum},
		{"github_pat_", 82, Alnum + "_"},
		{"glpat-", 20, Alnum + "_-"},
		{"xoxb-", 50, Digits + Lowers},
		{"xoxp-", 40, Digits},
		{"sk_live_", 24, Alnum},
		{"rk_live_", 24, Alnum},
		{"whsec_", 32, Alnum},
		{"AIza", 35, Alnum + "_-"},
		{"ya29.", 60, Alnum},
		{"GOCSPX-", 28, Alnum},
		{"sk-", 48, Alnum},
		{"sk-proj-", 60, Alnum},
		{"sk-ant-api03-", 90, Alnum + "_-"},
		{"npm_", 36, Alnum},
		{"pypi-AgEIcHlwaS5vcmc", 80, Alnum},
		{"SK", 32, hexDigits},
		{"dop_v1_", 64, hexDigits},
		{"hf_", 34, Alnum},
		{"hvs.", 90, Alnum},
		{"AGE-SECRET-KEY-1", 58, "QPZRY9X8GF2TVDW0S3JN54KHCE6MUA7L"},
		{"shpat_", 32, hexDigits},
		{"lin_api_", 40, Alnum},
		{"glsa_", 32, Alnum},
		{"dckr_pat_", 27, Alnum},
		{"", 44, Alnum},            // what a generator gives
		{"", 32, Lowers + Digits},  // the same, of fewer letters
		{"", 32, hexDigits},        // a key of 128 bits
		{"", 64, Alnum + "+/"},     // a key of 384 bits
		{"key-", 32, hexDigits},    // Mailgun
		{"figd_", 40, Alnum + "_"}, // Figma
	} {
		secret := Random(mark.mark+fmt.Sprint(mark.n), mark.n, mark.alphabet)
		all = append(all, Secret{fmt.Sprintf("%q of %d", mark.mark, mark.n), mark.mark + secret, secret})
	}
	part := func(seed string, n int) string { return Random(seed, n, Alnum) }
	jwt := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"HS256","typ":"JWT"}`)) + "." +
		base64.RawURLEncoding.EncodeToString([]byte(`{"sub":"1","role":"service_role"}`)) + "." + part("jwt", 43)
	bot := part("telegram", 33)
	discord := "MTA" + part("discord", 21) + "." + part("d2", 6) + "." + part("discord3", 38)
	pem := "-----BEGIN PRIVATE KEY-----\n" + part("pem", 64) + "\n" + part("pem2", 30) + "\n-----END PRIVATE KEY-----"
	sendgrid := part("sg", 22) + "." + part("sg2", 43)
	return append(all, Secret{"JWT", jwt, jwt[40:]},
		Secret{"telegram", "110201543:AA" + bot, bot},
		Secret{"discord", discord, discord},
		Secret{"PEM", pem, pem[28 : len(pem)-25]},
		Secret{"sendgrid", "SG." + sendgrid, sendgrid},
		Secret{"card", "4111111111111111", "4111111111111111"},
		Secret{"card in groups", "5500-0055-5555-5559", "5500-0055-5555-5559"},
		Secret{"card with spaces", "3782 822463 10005", "3782 822463 10005"},
	)
}

// Pairs are recognised by what stands around them.
func Pairs() []Secret {
	const pw = "correcthorsebat"
	var all []Secret
	for _, text := range []string{
		"postgres://user:%s@db.example.com:5432/postgres", "mysql://user:%s@h/db", "mongodb+srv://u:%s@c.mongodb.net/?w=majority",
		"redis://:%s@h:6379/0", "amqps://u:%s@h/v", "https://user:%s@example.com/x", "postgresql://u:a/b%s@h/db", "postgresql://u:a@b%s@h/db",
		"user:%s@tcp(127.0.0.1:3306)/db", "host=h user=u password=%s dbname=d", "host=h password='%s x' dbname=d", "Server=h;Uid=u;Pwd=%s;Database=d",
		"PWD={%s;x};Server=h", "DefaultEndpointsProtocol=https;AccountName=n;AccountKey=%s;EndpointSuffix=core.windows.net",
		"Endpoint=sb://n.servicebus.windows.net/;SharedAccessKeyName=n;SharedAccessKey=%s", "Authorization: Bearer %s1", "bearer %s1",
		"curl --password %s http://h", "curl --api-key='%s' http://h", "ALTER ROLE x WITH PASSWORD '%s'", `{"password":"%s"}`, `{"a":{"secret":["%s"]}}`,
		`{\"password\":\"%s\"}`, "password: %s", "db_password = %s", "the new API key: %s", "https://h/cb?access_token=%s&x=1", "export PGPASSWORD=%s",
		`<password>%s</password>`,
	} {
		all = append(all, Secret{text, fmt.Sprintf(text, pw), pw})
	}
	basic := base64.StdEncoding.EncodeToString([]byte("user:" + pw))
	return append(all, Secret{"Basic", "Basic " + basic, basic})
}

// Leaked gives a piece of the secret that is in a text.
func Leaked(text, secret string) string {
	for i := 0; i+12 <= len(secret); i++ {
		if piece := secret[i : i+12]; strings.Contains(text, piece) {
			return piece
		}
	}
	return ""
}
