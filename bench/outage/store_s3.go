package main

import (
	"bytes"
	"context"
	"fmt"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"

	"github.com/caddy-audit-log/caddy-audit-log/bench/internal/rig"
	"github.com/caddy-audit-log/caddy-audit-log/internal/s3test"
)

// s3Bucket is the build's, and s3Bare that of the bare client.
const (
	s3Bucket = "outage"
	s3Bare   = "bare"
)

// s3Store is a versitygw over a directory, with a bucket that locks what is written.
// Its outage is that it is killed.
type s3Store struct{ server *s3test.Server }

func newS3() (*s3Store, []string, error) {
	server, err := s3test.Start(context.Background(), "", "")
	if err != nil {
		return nil, nil, err
	}
	return &s3Store{server}, []string{"OUTAGE_S3_ACCESS=" + s3test.AccessKey, "OUTAGE_S3_SECRET=" + s3test.SecretKey}, nil
}

func (*s3Store) name() string { return s3Kind }
func (*s3Store) kind() string { return s3Kind }
func (*s3Store) once() bool   { return false }

// block has short times, so that a short trial has several objects.
func (s *s3Store) block() string {
	return "store s3 " + s.server.URL(s3Bucket) + " {\n\taccess_key {env.OUTAGE_S3_ACCESS}\n\tsecret_key {env.OUTAGE_S3_SECRET}\n" +
		"\tlock compliance 1h\n\tcreate on\n\ttimeout 5s\n\tbatch 5000 1s\n}"
}

func (s *s3Store) down(context.Context) error { return s.server.Down() }
func (s *s3Store) up(context.Context) error   { return s.server.Up() }
func (s *s3Store) close() error               { return s.server.Close() }

// lines are the entries of all objects, as they lie on the server's disk.
func (s *s3Store) lines() (lines [][]byte, err error) {
	objects, err := s.server.Objects(s3Bucket, "entries/")
	if err != nil {
		return nil, err
	}
	for _, o := range objects {
		b, err := o.Plain()
		if err != nil {
			return nil, err
		}
		for line := range bytes.Lines(b) {
			lines = append(lines, line)
		}
	}
	return lines, nil
}

func (s *s3Store) arrivals(context.Context) ([]rig.Entry, error) {
	lines, err := s.lines()
	if err == nil {
		return decode(func(yield func([]byte) error) error {
			for _, line := range lines {
				if err := yield(line); err != nil {
					return err
				}
			}
			return nil
		})
	}
	return nil, fmt.Errorf("reading what the bucket has: %w", err)
}

// rewrite compresses and uploads the same batches to another bucket with a lock, as
// whoever has all of it in hand would.
func (s *s3Store) rewrite(ctx context.Context, size int) (n int, took time.Duration, err error) {
	lines, err := s.lines()
	if err != nil {
		return 0, 0, err
	}
	client, err := minio.New(s.server.Addr, &minio.Options{
		Creds: credentials.NewStaticV4(s3test.AccessKey, s3test.SecretKey, ""), Region: "us-east-1", MaxRetries: 1,
	})
	if err != nil {
		return 0, 0, err
	}
	if err := client.MakeBucket(ctx, s3Bare, minio.MakeBucketOptions{ObjectLocking: true}); err != nil {
		return 0, 0, err
	}
	encoder, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1))
	if err != nil {
		return 0, 0, err
	}
	began := time.Now()
	for i := 0; i < len(lines); i += size {
		body := encoder.EncodeAll(bytes.Join(lines[i:min(i+size, len(lines))], nil), nil)
		if _, err := client.PutObject(ctx, s3Bare, fmt.Sprintf("%020d", i), bytes.NewReader(body), int64(len(body)), minio.PutObjectOptions{
			ContentType: "application/zstd", Mode: minio.Compliance, RetainUntilDate: time.Now().Add(time.Hour), SendContentMd5: true,
		}); err != nil {
			return 0, 0, err
		}
	}
	return len(lines), time.Since(began), nil
}
