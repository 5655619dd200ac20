package s3

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	awsmiddleware "github.com/aws/aws-sdk-go-v2/aws/middleware"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/smithy-go/middleware"
	smithyhttp "github.com/aws/smithy-go/transport/http"
)

// hungError ends a try that took too long. Another one may do better.
type hungError struct{ after time.Duration }

func (e *hungError) Error() string { return fmt.Sprintf("no answer within %s", e.after) }

// RetryableError is what the retryer of the SDK looks for.
func (*hungError) RetryableError() bool { return true }

// addDeadlines gives every try of a request its time. The transport bounds the
// waiting for the head of an answer only: a store that takes no more of what is
// sent, or stops within an answer, would be waited for endlessly. One that takes a
// little all the time, over a slow line, is waited for.
func addDeadlines(t times) func(*middleware.Stack) error {
	return func(stack *middleware.Stack) error {
		return stack.Finalize.Insert(middleware.FinalizeMiddlewareFunc("WalrecvDeadline", func(
			ctx context.Context, in middleware.FinalizeInput, next middleware.FinalizeHandler,
		) (middleware.FinalizeOutput, middleware.Metadata, error) {
			after := t.answer + t.rest
			if req, ok := in.Request.(*smithyhttp.Request); ok && req.ContentLength > 0 {
				after += time.Duration(req.ContentLength/t.rate) * time.Second
			}
			tried(ctx, awsmiddleware.GetOperationName(ctx))
			hung := &hungError{after}
			one, cancel := context.WithCancelCause(ctx)
			w := watch(after, sentOf(in), func() { cancel(hung) })
			out, meta, err := next.HandleFinalize(one, in)
			w.stop()
			if err != nil && context.Cause(one) == hung { //nolint:errorlint // that very one
				err = hung
			}
			// The body of an object is still to be read; its context, which Open
			// ends, is the parent of this one.
			if err != nil || awsmiddleware.GetOperationName(ctx) != "GetObject" {
				cancel(nil)
			}
			return out, meta, err
		}), "Retry", middleware.After)
	}
}

// sentOf counts the bytes of a request's content that were sent.
func sentOf(in middleware.FinalizeInput) func() int64 {
	if req, ok := in.Request.(*smithyhttp.Request); ok {
		if c, ok := req.GetStream().(*content); ok {
			return c.sent.Load
		}
	}
	return func() int64 { return 0 }
}

// watchdog waits for something to stand still.
type watchdog struct {
	mu    sync.Mutex
	timer *time.Timer
}

// watch calls still once a count has not changed for a time, unless it is stopped.
func watch(after time.Duration, count func() int64, still func()) *watchdog {
	w := &watchdog{}
	w.mu.Lock()
	defer w.mu.Unlock()
	seen := count()
	w.timer = time.AfterFunc(after, func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		if now := count(); now != seen {
			seen = now
			w.timer.Reset(after)
			return
		}
		still()
	})
	return w
}

func (w *watchdog) stop() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.timer.Stop()
}

// webPageError says that something answers that is no store of objects.
type webPageError struct{ status string }

func (e *webPageError) Error() string { return "a web page came back (" + e.status + ")" }

// addWebPages finds answers that no store gives: the log-in page of a proxy, the
// console of a store, a wrong port. Those of 500 and above may pass.
func addWebPages(stack *middleware.Stack) error {
	return stack.Deserialize.Add(middleware.DeserializeMiddlewareFunc("WalrecvWebPage", func(
		ctx context.Context, in middleware.DeserializeInput, next middleware.DeserializeHandler,
	) (middleware.DeserializeOutput, middleware.Metadata, error) {
		out, meta, err := next.HandleDeserialize(ctx, in)
		res, ok := out.RawResponse.(*smithyhttp.Response)
		if !ok || res.Response == nil || res.StatusCode >= 500 {
			return out, meta, err
		}
		if strings.HasPrefix(res.Header.Get("Content-Type"), "text/html") {
			if res.Body != nil {
				res.Body.Close() // nobody reads it
			}
			return out, meta, &webPageError{res.Status}
		}
		return out, meta, err
	}), middleware.Before)
}

// addPayloadHash spares the SDK from reading the content once more to sign it.
func addPayloadHash(hash string) func(*middleware.Stack) error {
	return func(stack *middleware.Stack) error {
		return stack.Initialize.Add(middleware.InitializeMiddlewareFunc("WalrecvPayloadHash", func(
			ctx context.Context, in middleware.InitializeInput, next middleware.InitializeHandler,
		) (middleware.InitializeOutput, middleware.Metadata, error) {
			return next.HandleInitialize(v4.SetPayloadHash(ctx, hash), in)
		}), middleware.Before)
	}
}
