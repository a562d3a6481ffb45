package caddymodule

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-audit-log/caddy-audit-log/caddymodule/operator"
)

const (
	// maxSearch bounds the request: JSON may need six bytes for one.
	maxSearch = 8 * operator.MaxCredential
	// searchRoom bounds what a search holds of the buffer's entries, in bytes.
	searchRoom = 16 << 20
)

// serveSearch answers POST, although it changes nothing: a credential must not
// stand in a URL or a header, which Caddy's log shows, and only POST has a body.
func (a *App) serveSearch(w http.ResponseWriter, r *http.Request) error {
	request, err := readSearch(w, r)
	if err != nil {
		return caddy.APIError{HTTPStatus: http.StatusBadRequest, Err: err}
	}
	s, err := a.hold()
	if err != nil {
		return err
	}
	defer s.release()
	q, err := request.Query(s.key)
	if err != nil {
		return caddy.APIError{HTTPStatus: http.StatusBadRequest, Err: err}
	}
	end := operator.SearchEnd{TokenHash: operator.ShownHash(&q.Trail)}
	do := operator.Search{Query: q, Buffer: s.buf, Room: searchRoom}
	reader, err := a.stores.OpenReader(r.Context())
	if err != nil {
		end.Note("only the buffer was searched, since no store can be read: %v", err)
	} else {
		defer reader.Close()
		do.Store = reader
	}
	w.Header().Set("Content-Type", "application/x-ndjson")
	return stream(w, func(emit func([]byte) error) error {
		do.Emit = func(doc []byte, by string) error { return emit(operator.FindingLine(doc, by)) }
		if err := do.Run(r.Context()); err != nil {
			return err
		}
		end.More = do.More
		if do.Failed != nil {
			end.Failed = do.Failed.Error()
		}
		line, err := json.Marshal(operator.Finding{End: &end})
		if err != nil {
			return err
		}
		return emit(line)
	})
}

// readSearch says nothing about a body that it cannot read but that: an error is
// logged, and the body may hold a credential.
func readSearch(w http.ResponseWriter, r *http.Request) (request operator.SearchRequest, err error) {
	d := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxSearch))
	d.DisallowUnknownFields()
	if err = d.Decode(&request); err == nil {
		if _, err = d.Token(); errors.Is(err, io.EOF) {
			return request, nil
		}
	}
	return request, fmt.Errorf("reading the search: the body is not one JSON object of up to %d bytes with the fields "+
		"credential, token_hash, session, user, ip, organization, from, to and text, all texts, filters, which has lists of texts by name, "+
		"limit, a number, and newest_first, true or false", maxSearch)
}
