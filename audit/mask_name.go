package audit

import (
	"slices"
	"strings"
)

// nameKind is what the name of a member, a parameter or a variable says about
// its value.
type nameKind int

const (
	// namePlain says nothing.
	namePlain nameKind = iota
	// nameSecret says that the value is a credential.
	nameSecret
	// nameAsks says so too, but that true and false are none: verify_jwt.
	nameAsks
	// nameCounts says so too, but that a number is none: max_tokens.
	nameCounts
)

// A name is read as words: api_key, apiKey, API-KEY and Api.Key are two, of
// which the last say what the value is. A token_type is a type, a secret_name
// a name, a password_min_length a length and a session_timeout a time; a
// client_secret is a secret. Words at the end that only say which one, as in
// new, hash or 2, are passed over.
var (
	// secretWords are secrets as a name's last word.
	secretWords = wordSet(`authorization bearer cookie creds cvc cvv cvv2 dsn jwt jwe mnemonic otp pass passcode
		passphrase passwd password pat pem pgpass pin psk pw pwd salt sas secret session sessionid sessid jsessionid phpsessid
		sig signature tfa token totp credential cred connectionstring connstring connstr`)
	// secretEnds are secrets as a name's end, also where no word begins there.
	secretEnds = []string{
		"password", "passwd", "passphrase", "passcode", "secret", "token", "credential", "apikey", "privatekey", "accesskey",
		"secretkey", "servicekey", "encryptionkey", "signingkey", "masterkey", "rootkey", "anonkey", "servicerole",
		"servicerolekey", "sharedkey", "sharedaccesskey", "accountkey", "storagekey", "deploykey", "sshkey", "hostkey", "authkey",
		"licensekey", "sslkey", "tlskey", "sessionkey", "cookiekey", "hmackey", "aeskey", "rsakey", "webhookkey", "adminkey",
		"integrationkey", "recoverykey", "backupkey", "unsealkey", "kmskey", "symmetrickey", "sharedaccesssignature",
		"connectionstring", "connectionuri", "connectionurl", "databaseurl", "databaseuri", "dburl", "dburi", "postgresurl",
		"redisurl", "mongourl", "mongouri", "amqpurl", "webhookurl", "jwks", "privatejwk", "jwk",
		"authcode", "authorizationcode", "devicecode", "backupcode", "recoverycode", "verificationcode", "securitycode", "onetimecode",
		"resetcode", "mfacode", "otpcode", "pincode", "codeverifier", "clientassertion", "authorization", "proxyauthorization",
		"cardnumber", "creditcard", "setcookie",
	}
	// fillerWords say which secret it is, or in which form.
	fillerWords = wordSet(`new old current previous next confirm confirmation confirmed again repeat value values val plain
		plaintext text raw clear hash hashed encrypted enc base64 b64 hex encoded base data payload
		primary secondary default test live prod production dev staging header content body`)
	// strongWords are secrets wherever they stand in a name, unless aboutWords end
	// it.
	strongWords = wordSet(`password passwd pwd passphrase passcode secret token credential`)
	aboutWords  = wordSet(`type name length id ids alias timeout minute hour day exp expiry expires expire expiration in enabled
		disabled enable character characters interval timebox user policy uri url endpoint count limit ttl max min at by on
		reauthentication required rotation algorithm alg format scope role status state rate version kind label description
		digits period window attempts attempt reset change changed update updated created issuer audience method mode
		provider strength rule size age days lifetime duration reference ref path prefix hint template settings config
		configuration options`)
	// askingWords begin names whose values say whether, not what.
	askingWords = wordSet(`is has have require requires required enable enables enabled disable disables disabled allow allows
		allowed use uses used enforce enforces verify verifies with skip show reveal include`)
	// countingWords stand before what is counted.
	countingWords = wordSet(`max min num number n total count used prompt completion input output limit remaining cached
		reasoning budget`)
)

func wordSet(list string) map[string]bool {
	set := make(map[string]bool)
	for word := range strings.FieldsSeq(list) {
		set[word] = true
	}
	return set
}

// kindOfName reads a name. It looks at the end of a long one only.
func kindOfName(name string) nameKind {
	if len(name) < 3 && !strings.EqualFold(name, "pw") {
		return namePlain
	}
	if len(name) > maxText {
		name = name[len(name)-maxText:]
	}
	var room [16]string
	words := wordsOf(room[:0], unescapeAny(name))
	for len(words) > 1 && (fillerWords[words[len(words)-1]] || isNumber(words[len(words)-1])) {
		words = words[:len(words)-1]
	}
	if len(words) == 0 {
		return namePlain
	}
	last := words[len(words)-1]
	single := strings.TrimRight(strings.TrimSuffix(last, "s"), "0123456789")
	if !secretWords[last] && !secretWords[single] && !endsSecret(words) && !speaksOfSecret(words) {
		return namePlain
	}
	switch {
	case len(words) > 1 && askingWords[words[0]]:
		return nameAsks
	case last == "tokens" && slices.ContainsFunc(words[:len(words)-1], func(w string) bool { return countingWords[w] }):
		return nameCounts
	}
	return nameSecret
}

// speaksOfSecret reports whether a secret is somewhere in a name that does not end
// in a word for something else about it: password_v2 is one, and token_type not.
func speaksOfSecret(words []string) bool {
	last := words[len(words)-1]
	if aboutWords[last] || aboutWords[strings.TrimSuffix(last, "s")] {
		return false
	}
	return slices.ContainsFunc(words, func(w string) bool {
		return strongWords[strings.TrimRight(w, "0123456789")] || strongWords[strings.TrimSuffix(w, "s")]
	})
}

func endsSecret(words []string) bool {
	joined := strings.TrimRight(strings.Join(words, ""), "0123456789")
	single := strings.TrimSuffix(joined, "s")
	return slices.ContainsFunc(secretEnds, func(end string) bool {
		return strings.HasSuffix(joined, end) || strings.HasSuffix(single, end)
	})
}

// wordsOf splits a name at everything that is no letter or digit, and where a
// capital begins a word.
func wordsOf(words []string, name string) []string {
	start := -1
	end := func(i int) {
		if start >= 0 {
			words = append(words, strings.ToLower(name[start:i]))
		}
		start = -1
	}
	for i := range len(name) {
		c := name[i]
		switch {
		case !isLetter(c) && !isDigit(c):
			end(i)
			continue
		case start < 0:
			start = i
		case isUpper(c) && (!isUpper(name[i-1]) || i+1 < len(name) && isLower(name[i+1]) && name[i+1] != 's'):
			end(i)
			start = i
		}
	}
	end(len(name))
	return words
}

func isUpper(c byte) bool { return c >= 'A' && c <= 'Z' }
func isLower(c byte) bool { return c >= 'a' && c <= 'z' }

func isNumber(s string) bool { return s != "" && strings.Trim(s, "0123456789") == "" }

// hidesValue reports whether the value of a name is masked for its name.
func hidesValue(name, value string) bool {
	switch kindOfName(name) {
	case nameSecret:
		return true
	case nameAsks:
		return value != "true" && value != "false"
	case nameCounts:
		return !isNumber(value) || len(value) > 9
	}
	return false
}
