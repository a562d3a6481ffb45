package audit

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"html"
	"net/url"
	"strings"
	"testing"

	"github.com/caddy-audit-log/caddy-audit-log/internal/planted"
)

func TestNamesOfSecrets(t *testing.T) {
	for name := range strings.FieldsSeq(`password PASSWORD Password passwd pwd pass passphrase secret client_secret clientSecret
		client-secret CLIENT_SECRET token access_token accessToken refresh_token id_token api_key apikey apiKey API-KEY
		ApiKey x-api-key private_key privateKey PrivateKey authorization Authorization Proxy-Authorization cookie Cookie
		Set-Cookie session sessionid credential credentials otp totp pin PIN cvv cvc connection_string connectionString
		ConnectionString dsn DSN webhook_secret webhookSecret service_role serviceRole service_role_key anon_key anonKey
		smtp_pass db_pass dbPass sms_twilio_auth_token sms_vonage_api_secret sms_messagebird_access_key
		hook_send_sms_secrets security_captcha_secret external_github_secret secrets tokens passwords newPassword
		new_password password_confirmation password2 password_hash secret_value tokenValue accesstoken clientsecret
		AWS_SECRET_ACCESS_KEY DATABASE_URL database_url jwt_secret SUPABASE_SERVICE_ROLE_KEY private_jwk root_key
		signing_key encryption_key code_verifier recovery_codes backup_codes user.password user[password] sms_test_otp
		AccountKey SharedAccessKey PGPASSWORD pass%77ord set-cookie card_number bearer mnemonic psk webhook_url
		secretKeyBase Passphrase APIKEY APIKey userAPIKeys pw`) {
		if kindOfName(name) != nameSecret {
			t.Errorf("%s is no secret", name)
		}
	}
	for name := range strings.FieldsSeq(`token_type password_min_length secret_name session_timeout tokens_per_minute expires_in
		name region plan slug ref id type description token_alias token_id session_id user_id email role roles key keys
		public_key publishable_key verify api_key_id api_key_name secrets_count password_hibp_enabled
		password_required_characters refresh_token_rotation_enabled security_refresh_token_reuse_interval mailer_otp_exp
		mailer_otp_length sessions_timebox sessions_single_per_user sms_otp_exp hook_custom_access_token_enabled
		hook_custom_access_token_uri passed compass shipping spinning pinned opinion dns design signature_algorithm
		author authority authors cookies_policy access_key_id keyboard monkey secretary tokenizer passenger
		security_update_password_require_reauthentication status code pass_rate branch_name git_branch db_schema`) {
		if kindOfName(name) != namePlain {
			t.Errorf("%s is a secret", name)
		}
	}
	for name, want := range map[string]nameKind{
		"verify_jwt": nameAsks, "require_password": nameAsks, "hasSecret": nameAsks, "is_token": nameAsks,
		"max_tokens": nameCounts, "totalTokens": nameCounts, "max_completion_tokens": nameCounts,
	} {
		if got := kindOfName(name); got != want {
			t.Errorf("%s is %d, want %d", name, got, want)
		}
	}
}

// unescapeEntities writes each letter as HTML has it by number.
func entities(s string) string {
	var b strings.Builder
	for _, c := range s {
		fmt.Fprintf(&b, "&#%d;", c)
	}
	return b.String()
}

func percent(s string) string { return "%" + strings.TrimSuffix(strings.ToUpper(spaced(s)), "%") }

func spaced(s string) string {
	var b strings.Builder
	for i := range len(s) {
		b.WriteString(hex.EncodeToString([]byte{s[i]}) + "%")
	}
	return b.String()
}

func quotedJSON(s string) string {
	out, _ := json.Marshal(s)
	return string(out)
}

func unicodeEscaped(s string) string {
	var b strings.Builder
	for _, c := range s {
		fmt.Fprintf(&b, `\u%04x`, c)
	}
	return b.String()
}

// disguises are the forms in which a credential may stand in a string.
var disguises = map[string]func(s string) string{
	"plain":          func(s string) string { return s },
	"in a sentence":  func(s string) string { return "see " + s + " for more" },
	"after a colon":  func(s string) string { return "note:" + s },
	"base64":         func(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) },
	"base64url":      func(s string) string { return base64.RawURLEncoding.EncodeToString([]byte(s)) },
	"base64 twice":   func(s string) string { return disguiseTwice(s) },
	"percent":        percent,
	"query escaped":  url.QueryEscape,
	"twice escaped":  func(s string) string { return percent(url.QueryEscape(s)) },
	"entities":       entities,
	"HTML":           html.EscapeString,
	"JSON within":    func(s string) string { return `{"note":` + quotedJSON(s) + `,"n":1}` },
	"JSON, twice":    func(s string) string { return `{"note":` + quotedJSON(`{"n":`+quotedJSON(s)+`}`) + `}` },
	"a JSON string":  quotedJSON,
	"JSON cut":       func(s string) string { return `{"note":` + quotedJSON(s) + `,"n":` },
	"unicode escape": unicodeEscaped,
	"after a break":  func(s string) string { return `line\n` + s },
	"deep in text":   func(s string) string { return strings.Repeat("word ", 45) + s },
}

func disguiseTwice(s string) string {
	return base64.StdEncoding.EncodeToString([]byte(base64.StdEncoding.EncodeToString([]byte(s))))
}

// places put a string into a call.
var places = map[string]func(t testing.TB, s *Selection, text string) string{
	"query": func(t testing.TB, s *Selection, text string) string {
		return encoded(t, s.Query("a="+url.QueryEscape(text)))
	},
	"header": func(t testing.TB, s *Selection, text string) string {
		return encoded(t, s.Header(func(string) []string { return []string{"x", text} }))
	},
	"JSON": func(t testing.TB, s *Selection, text string) string {
		return capturedJSON(t, s, "application/json", `{"a":`+quotedJSON(text)+`}`, 0, true)
	},
	"JSON, escaped": func(t testing.TB, s *Selection, text string) string {
		return capturedJSON(t, s, "application/json", `{"a":"`+unicodeEscaped(text)+`"}`, 1<<20, true)
	},
	"nested": func(t testing.TB, s *Selection, text string) string {
		return capturedJSON(t, s, "application/json", `{"a":{"b":{"c":`+quotedJSON(text)+`}}}`, 0, true)
	},
	"list": func(t testing.TB, s *Selection, text string) string {
		return capturedJSON(t, s, "application/json", `{"a":[1,[`+quotedJSON(text)+`]]}`, 0, true)
	},
	"key": func(t testing.TB, s *Selection, text string) string {
		return capturedJSON(t, s, "application/json", `{"a":{`+quotedJSON(text)+`:1}}`, 0, true)
	},
	"key, whose value is cut": func(t testing.TB, s *Selection, text string) string {
		b := s.NewBody("application/json", "", false, 0)
		b.Write([]byte(`{"a":{` + quotedJSON(text) + `:"` + strings.Repeat("x ", 400) + `"}}`))
		return encoded(t, b.Captured(true)) + encoded(t, b.Cut())
	},
	"form": func(t testing.TB, s *Selection, text string) string {
		return capturedJSON(t, s, "application/x-www-form-urlencoded", "a="+url.QueryEscape(text), 0, true)
	},
	"multipart": func(t testing.TB, s *Selection, text string) string {
		return capturedJSON(t, s, "multipart/form-data; boundary=B", "--B\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\n"+text+"\r\n--B--\r\n", 0, true)
	},
	"SQL": func(t testing.TB, s *Selection, text string) string {
		return capturedJSON(t, s, "application/json", `{"q":`+quotedJSON("select * from t where x = '"+strings.ReplaceAll(text, "'", "''")+"' -- "+strings.ReplaceAll(text, "\n", " ")+"\n")+`}`, 0, true)
	},
	"name in SQL": func(t testing.TB, s *Selection, text string) string {
		return capturedJSON(t, s, "application/json", `{"q":`+quotedJSON(`select "`+strings.ReplaceAll(text, `"`, `""`)+`" from t`)+`}`, 0, true)
	},
}

// Whatever a body, a query or a header holds, no credential is recorded that
// we know the look of, also where the allow-list names what holds it.
func TestNoPlantedSecretIsCaptured(t *testing.T) {
	s := selection(t, Capture{Body: []string{"a", "q:sql"}, Query: []string{"a"}, Header: []string{"X-A"}})
	tested := 0
	check := func(p planted.Secret) {
		for form, disguise := range disguises {
			for place, put := range places {
				if place == "name in SQL" && p.Part == "correcthorsebat" {
					continue // what stands around them is not for names
				}
				tested++
				text := disguise(p.Text)
				out := put(t, s, text)
				for _, decoded := range []string{out, html.UnescapeString(unescapeAny(out)), unescapeJSON(out)} {
					if piece := planted.Leaked(decoded, p.Part); piece != "" {
						t.Errorf("%s, %s, in %s: %q is in %s", p.Kind, form, place, piece, out)
						break
					}
				}
			}
		}
	}
	shapes, pairs := planted.Shapes(), planted.Pairs()
	for _, p := range shapes {
		check(p)
	}
	for _, p := range pairs {
		check(p)
	}
	if len(shapes)+len(pairs) < 40 {
		t.Errorf("%d kinds are too few", len(shapes)+len(pairs))
	}
	t.Logf("%d kinds, %d cases", len(shapes)+len(pairs), tested)
}

// What is no credential stays as it is, or the log says nothing.
func TestInnocentTextStays(t *testing.T) {
	for _, text := range []string{
		"", "x", "My production project", "eu-west-1", "ada@example.com", "10.0.0.0/8", "2001:db8::/32", "hello-world",
		"550e8400-e29b-41d4-a716-446655440000", "project-550e8400-e29b-41d4-a716-446655440000/x",
		"2fd4e1c67a2d28fced849ee1bb76e7391b93eb12", "E3B0C44298FC1C149AFBF4C8996FB92427AE41E4649B934CA495991B7852B855",
		"sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855", "01ARZ3NDEKTSV4RRFFQ69G5FAV",
		"abcdefghijklmnopqrst", "https://abcdefghijklmnopqrst.supabase.co/functions/v1/hello", "https://example.com:8443/x@y",
		"postgres://user@db.example.com:5432/postgres", "supabase/postgres:15.1.0.147", "2026-11-23T01:40:16.123456Z", "1763862016123456",
		"+41 44 668 18 00", "C++ > C & a < b", "100%", "50% of 20%", `C:\Users\ada`, "a very long description of what the project is meant to be used for",
		"the-name-of-a-branch-that-somebody-made-rather-long-for-a-feature", "https://docs.example.com/guides/platform/access-control/organization-members",
		"AuthorizationControllerGetsAllMembersOfAnOrganization", "SELECT id, name FROM users WHERE id = 5", `{"name":"x","plan":"pro"}`, "[1,2,3]",
		"the bearer of bad news", "basic authentication required", "Reset your password", "token expired", "pass", "sk-learn-pipeline-for-regression-tests",
		"refs/heads/feature/2024-01-02-new-dashboard-for-organizations", "ghp_short", "eyJ", "role:owner", "region=eu", "Fehler: Größe überschritten",
		"application/json; charset=utf-8", "v1-get-project-legacy-api-keys", "日本語のプロジェクト名", "micro", "t4g.small", "1.2.3-rc.4", "4111111111111112",
		"verify_jwt=true&slug=hello", "max_tokens: 400", "user.session_timeout=30", "{{ .ConfirmationURL }}", "https://*.example.com/**,exp://x",
		"a=b&c=d;e=f", "%20x%20", "&amp;&lt;", `line\nbreak`,
	} {
		if got, n := (masker{p: Supabase()}).text(text, maxText); got != text || n != 0 {
			t.Errorf("%s became %s, cut %d", text, got, n)
		}
	}
}

// What is around a password stays, since it says which one it is.
func TestOnlyThePasswordGoes(t *testing.T) {
	for text, want := range map[string]string{
		"postgres://user:hunter2@db.example.com:5432/postgres": "postgres://user:[redacted]@db.example.com:5432/postgres",
		"host=h password=hunter2 dbname=d":                     "host=h password=[redacted] dbname=d",
		"Server=h;Pwd=hunter2;Database=d":                      "Server=h;Pwd=[redacted];Database=d",
		"AccountName=n;AccountKey=abc/def==;X=y":               "AccountName=n;AccountKey=[redacted];X=y",
		`{"password":"hunter2","name":"x"}`:                    `{"name":"x","password":"[redacted]"}`,
		"Authorization: Bearer abcdef123":                      "Authorization: [redacted]",
		"use Bearer abcdef123, please":                         "use Bearer [redacted], please",
		"card 4111 1111 1111 1111 12/29":                       "card [redacted] 12/29",
		"https://h/?a=1&token=x&b=2":                           "https://h/?a=1&token=[redacted]&b=2",
		"password%3Dhunter2":                                   "[redacted]",
		"cGFzc3dvcmQ9aHVudGVyMg==":                             "[redacted]",
	} {
		got, _ := masker{}.text(text, maxText)
		if got != want {
			t.Errorf("%s became %s, want %s", text, got, want)
		}
		if again, _ := (masker{}).text(got, maxText); again != got {
			t.Errorf("%s became %s when masked again", got, again)
		}
	}
}

func TestMaskSQL(t *testing.T) {
	for query, want := range map[string]string{
		"select 1": "select ?",
		"select * from t1 where a = 'x' and b=2.5":  "select * from t1 where a = ? and b=?",
		"select 'it''s' || x":                       "select ? || x",
		`select E'it\'s', 'b'`:                      "select ?, ?",
		`select 'it\'s', 'b'`:                       "select ?",
		`select 'C:\', 'secret'`:                    "select ?",
		`select 'a\\b', 'c'`:                        "select ?, ?",
		"select $1, $12":                            "select $1, $12",
		"select $$a'b$$, $tag$ $$ $tag$, x":         "select ?, ?, x",
		"select $tag$ never ends":                   "select ?",
		"select 'never ends":                        "select ?",
		`select "never ends`:                        "select ?",
		"select X'ff', B'01', b'1', N'n', U&'d'":    "select ?, ?, ?, ?, ?",
		"select -1, +2, 1e-5, .5, 0xFF, 1_000":      "select -?, +?, ?, ?, ?, ?",
		"select 1 -- secret\n, 2":                   "select ? \n, ?",
		"select 1 /* a /* b */ secret */, 2":        "select ?  , ?",
		"select 1 /* secret":                        "select ? ",
		`select "My ""Table""", t.a1`:               `select "My ""Table""", t.a1`,
		`insert into t values ('{"a":1}'::jsonb)`:   "insert into t values (?::jsonb)",
		"copy t from stdin;\n1\tsecret\n\\.":        "copy t from stdin;?",
		`\password secret`:                          "?",
		"create function f() as $$ secret $$":       "create function f() as ?",
		"alter role r password 'x' valid until 'y'": "alter role r password ? valid until ?",
		"alter role ghp_0123456789abcdefghij x":     "alter role [redacted] x",
		"select a->>'k', b#>>'{x}'":                 "select a->>?, b#>>?",
		"select array[a, 'secret'], b[1]":           "select array[a, ?], b[?]",
		"select `a b`, ` 'secret' `":                "select `a b`, ?",
		"größe = 5":                                 "größe = ?",
		"select password from t where id = $1":      "select password from t where id = $1",
		"":                                          "",
	} {
		if got := MaskSQL(query); got != want {
			t.Errorf("%s\n got %s\nwant %s", query, got, want)
		}
	}
	if got := MaskSQL("select " + strings.Repeat("a, ", 5000)); len(got) > maxLong {
		t.Errorf("%d bytes", len(got))
	}
}

func BenchmarkMask(b *testing.B) {
	m := masker{p: Supabase()}
	for name, text := range map[string]string{
		"words":      "Production database of the shop in Zurich, owned by the team that looks after payments and refunds ok",
		"name":       "my-project",
		"url":        "https://abcdefghijklmnopqrst.supabase.co/functions/v1/hello-world?region=eu-west-1&verbose=true&x=12",
		"credential": "postgres://user:hunter2@db.example.com:5432/postgres and so on, to a hundred bytes in all, as others do.",
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				m.text(text, maxText)
			}
		})
	}
}

func BenchmarkCapture(b *testing.B) {
	s := selection(b, Capture{Body: []string{"name", "region", "plan", "settings.network", "tags.*"}})
	body := []byte(`{"name":"my-project","region":"eu-west-1","plan":"pro","db_pass":"hunter2hunter2","settings":{"network":{"cidrs":["10.0.0.0/8","192.168.0.0/16"]},"x":1},"tags":["a","b","c"],"description":"` +
		strings.Repeat("what it is for and ", 42) + `"}`)
	b.Run("json", func(b *testing.B) {
		b.ReportAllocs()
		b.SetBytes(int64(len(body)))
		for b.Loop() {
			c := s.NewBody("application/json", "", false, 0)
			c.Write(body)
			c.Captured(true)
		}
	})
	b.Run("nothing", func(b *testing.B) {
		var none *Selection
		b.ReportAllocs()
		for b.Loop() {
			c := none.NewBody("application/json", "", false, 0)
			c.Write(body)
			c.Captured(true)
		}
	})
}

// A site's own credentials are no less its credentials in a body.
func TestTheSitesOwnCredentialsAreMasked(t *testing.T) {
	shape, err := PrefixShape("robot", "rb_")
	if err != nil {
		t.Fatal(err)
	}
	pattern, err := PatternShape("badge", `B[0-9]{6}-[0-9]{6}`)
	if err != nil {
		t.Fatal(err)
	}
	s, err := NewSelection(Supabase().WithTokens([]TokenShape{shape, pattern}, ""), Capture{Body: []string{"a", "q:sql"}})
	if err != nil {
		t.Fatal(err)
	}
	for _, secret := range []string{"rb_0123456789", "B123456-654321"} {
		for form, disguise := range disguises {
			got := capturedJSON(t, s, "application/json", `{"a":{"n":`+quotedJSON(disguise(secret))+`},"q":`+quotedJSON(`select "`+secret+`"`)+`}`, 0, true)
			if piece := planted.Leaked(unescapeAny(got), secret); piece != "" {
				t.Errorf("%s, %s: %q is in %s", secret, form, piece, got)
			}
		}
	}
}

// Of what generators make, one in a hundred may look like words.
func TestRandomTextLooksRandom(t *testing.T) {
	for name, of := range map[string]struct {
		n        int
		alphabet string
	}{
		"letters and digits": {32, planted.Alnum}, "base64": {40, planted.Alnum + "+/"}, "base64url": {43, planted.Alnum + "-_"},
		"small letters and digits": {32, planted.Lowers + planted.Digits}, "hex": {32, hexDigits},
	} {
		missed := 0
		for i := range 1000 {
			if !looksRandom(planted.Random(fmt.Sprint(name, i), of.n, of.alphabet)) {
				missed++
			}
		}
		if missed > 10 {
			t.Errorf("%s: %d of 1000 are missed", name, missed)
		}
	}
}
