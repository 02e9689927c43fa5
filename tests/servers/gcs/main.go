// A server that speaks as much of Google Cloud Storage as the tests need: gcs-server HOST:PORT BUCKET.
//
// It is fake-gcs-server, which knows the JSON API, behind a translation of the writes of the XML API, with which clients in
// Rust write.
package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"strings"

	"github.com/fsouza/fake-gcs-server/fakestorage"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "gcs-server:", err)
		os.Exit(1)
	}
}

func run() error {
	if len(os.Args) != 3 {
		return fmt.Errorf("usage: gcs-server HOST:PORT BUCKET")
	}
	address, bucket := os.Args[1], os.Args[2]
	server, err := fakestorage.NewServerWithOptions(fakestorage.Options{
		NoListener:  true,
		Scheme:      "http",
		PublicHost:  address,
		ExternalURL: "http://" + address,
	})
	if err != nil {
		return err
	}
	server.CreateBucketWithOpts(fakestorage.CreateBucketOpts{Name: bucket})
	return http.ListenAndServe(address, &translator{address: address, json: server.HTTPHandler()})
}

// translator turns PUT /BUCKET/OBJECT into the upload of the JSON API. All else goes through.
type translator struct {
	address string
	json    http.Handler
}

func (t *translator) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	bucket, object, found := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	if r.Method != http.MethodPut || !found || object == "" || isAPI(bucket) {
		t.json.ServeHTTP(w, r)
		return
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	t.upload(w, bucket, object, r.Header.Get("x-goog-if-generation-match"), body)
}

func (t *translator) upload(w http.ResponseWriter, bucket, object, generation string, body []byte) {
	query := url.Values{"uploadType": {"media"}, "name": {object}}
	if generation != "" {
		query.Set("ifGenerationMatch", generation)
	}
	target := "http://" + t.address + "/upload/storage/v1/b/" + bucket + "/o?" + query.Encode()
	request, err := http.NewRequest(http.MethodPost, target, bytes.NewReader(body))
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	request.Host = t.address
	request.Header.Set("Content-Type", "application/octet-stream")
	answer := httptest.NewRecorder()
	t.json.ServeHTTP(answer, request)
	if answer.Code != http.StatusOK {
		w.WriteHeader(answer.Code)
		_, _ = w.Write(answer.Body.Bytes())
		return
	}
	var written struct{ Generation, Etag string }
	if err := json.Unmarshal(answer.Body.Bytes(), &written); err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("ETag", written.Etag)
	w.Header().Set("x-goog-generation", written.Generation)
}

// isAPI says whether the first part of a path is none of a bucket.
func isAPI(part string) bool {
	switch part {
	case "storage", "upload", "download", "batch":
		return true
	}
	return false
}
