package s3

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"strings"

	smithy "github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"github.com/walrecv/walrecv/storage"
)

// failure is an error in words for an operator. It wraps what callers go by, and
// nothing else: a token file that is missing, say, is fs.ErrNotExist somewhere in
// the error of the SDK, which would look like the answer of a store.
type failure struct {
	text   string
	is     error // nil: unknown
	passes bool  // by itself, perhaps
}

func (f *failure) Error() string { return f.text }
func (f *failure) Unwrap() error { return f.is }

// errNoUpload says that a multipart upload is not there: it never was, it was
// completed, or somebody has aborted it.
var errNoUpload = errors.New("the upload is not there any more")

func isAbsent(err error) bool { return errors.Is(err, fs.ErrNotExist) }

// ended is the error of a call whose context has ended, or nil.
func ended(ctx context.Context, what string) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}

// failed says what an error of the SDK means: nil only for nil. what is "put KEY"
// or the like.
func (s *Store) failed(ctx context.Context, what string, err error) error {
	if err == nil {
		return nil
	}
	if ctxErr := ended(ctx, what); ctxErr != nil {
		return ctxErr
	}
	var page *webPageError
	var hung *hungError
	var garbled *smithy.DeserializationError
	var answer smithy.APIError
	switch {
	case errors.As(err, &page):
		return s.notS3(what, page.Error())
	case errors.As(err, &hung):
		return &failure{text: fmt.Sprintf("%s: %s: %s", what, s.where, hung), passes: true}
	case errors.As(err, &answer):
		return s.refused(what, answer, replyOf(err))
	case errors.As(err, &garbled):
		return s.notS3(what, "an answer that makes no sense")
	}
	var request *url.Error
	if errors.As(err, &request) {
		return &failure{text: fmt.Sprintf("%s: no answer from %s: %s", what, s.where, connection(request.Err)), passes: true}
	}
	return &failure{text: fmt.Sprintf("%s: %s: %s", what, s.where, reason(err)), passes: true}
}

// connection says why a connection is of no use.
func connection(err error) string {
	text := clip(err.Error())
	switch {
	case errors.Is(err, io.EOF):
		return "it closed the connection"
	case strings.Contains(text, "x509:"):
		return text + "; certificates of an authority of your own go into ca_file="
	}
	return text
}

// notS3 is the error of an answer that no store of objects gives.
func (s *Store) notS3(what, got string) error {
	return &failure{text: fmt.Sprintf("%s: what answers for %s does not speak S3: %s; is the endpoint right?", what, s.where, got), is: storage.ErrSetup}
}

// refused says what an error answer means.
func (s *Store) refused(what string, answer smithy.APIError, r reply) error {
	status := r.status
	said := func(is error, format string, args ...any) error {
		text := fmt.Sprintf("%s: %s (%s)", what, fmt.Sprintf(format, args...), inBrief(answer, status))
		return &failure{text: text, is: is, passes: is == nil && passing(answer, status)}
	}
	op, key, _ := strings.Cut(what, " ")
	switch answer.ErrorCode() {
	case "NoSuchKey":
		if op == "put" || op == "list" { // which need none
			return s.notS3(what, inBrief(answer, status))
		}
		return &fs.PathError{Op: op, Path: key, Err: fs.ErrNotExist}
	case "NoSuchUpload":
		return said(errNoUpload, "%s: %v", s.where, errNoUpload)
	case "NoSuchBucket":
		return said(storage.ErrNoRoot, "the %s does not exist", s.where)
	case "PreconditionFailed":
		return &fs.PathError{Op: op, Path: key, Err: fs.ErrExist}
	case "RequestTimeTooSkewed", "RequestExpired":
		return said(nil, "the clock of this host and that of %s differ too much: set it right", s.where)
	case "ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired":
		return said(fs.ErrPermission, "the keys for %s have expired: renew them", s.where)
	case "InvalidAccessKeyId", "SignatureDoesNotMatch", "InvalidToken":
		return said(fs.ErrPermission, "the keys for %s are wrong", s.where)
	case "PermanentRedirect", "TemporaryRedirect", "AuthorizationHeaderMalformed", "IllegalLocationConstraintException", "MovedPermanently":
		return said(storage.ErrSetup, "%s is not in this region%s", s.where, r.hint())
	}
	switch {
	case status == http.StatusForbidden, status == http.StatusUnauthorized:
		return said(fs.ErrPermission, "%s refuses it: the keys lack a right", s.where)
	case status == http.StatusMovedPermanently, status == http.StatusTemporaryRedirect:
		return said(storage.ErrSetup, "%s is not in this region%s", s.where, r.hint())
	case op == "put" && noConditions(answer, status):
		return said(storage.ErrUnsafe, "%s: %v", s.where, storage.ErrUnsafe)
	case status == http.StatusNotFound, status == http.StatusMethodNotAllowed:
		return s.notS3(what, inBrief(answer, status))
	}
	return said(nil, "%s has trouble", s.where)
}

// noConditions tells whether a put was refused because it was conditional.
func noConditions(answer smithy.APIError, status int) bool {
	return status == http.StatusNotImplemented || answer.ErrorCode() == "NotImplemented" ||
		status == http.StatusBadRequest && strings.Contains(strings.ToLower(answer.ErrorMessage()), "if-none-match")
}

// passing tells whether a request that was refused may be taken later, as it is.
func passing(answer smithy.APIError, status int) bool {
	switch answer.ErrorCode() {
	case "BadDigest", "XAmzContentChecksumMismatch", "XAmzContentSHA256Mismatch", // damaged on its way
		"RequestTimeout", "SlowDown", "Throttling", "ConditionalRequestConflict", "OperationAborted":
		return true
	}
	return status >= 500 || status == http.StatusRequestTimeout || status == http.StatusTooManyRequests
}

// hint says where a bucket is.
func (r reply) hint() string {
	if r.region == "" {
		return ": correct region= in the archive URL"
	}
	return ": it is in " + clip(r.region) + "; correct region= in the archive URL"
}

// inBrief is an answer in the store's own words.
func inBrief(answer smithy.APIError, status int) string {
	text := answer.ErrorCode()
	if text == "" {
		text = "no error code"
	}
	if message := answer.ErrorMessage(); message != "" {
		text += ": " + message
	}
	text = clip(text)
	if status != 0 {
		text += fmt.Sprintf(", HTTP %d", status)
	}
	return text
}

// clip makes one line of a text, and not a long one.
func clip(text string) string {
	const most = 200
	text = strings.Join(strings.Fields(text), " ")
	if len(text) > most {
		text = strings.ToValidUTF8(text[:most], "") + "..."
	}
	return text
}

// reply is what else of an error answer counts.
type reply struct {
	status int // 0: none
	region string
}

func replyOf(err error) reply {
	var re *smithyhttp.ResponseError
	if errors.As(err, &re) && re.Response != nil {
		return reply{re.HTTPStatusCode(), re.Response.Header.Get("X-Amz-Bucket-Region")}
	}
	return reply{}
}

// reason is the innermost error that says something: around it are the names of
// the SDK's own steps.
func reason(err error) string {
	for {
		inner := errors.Unwrap(err)
		if inner == nil || inner.Error() == "" {
			return clip(err.Error())
		}
		err = inner
	}
}
