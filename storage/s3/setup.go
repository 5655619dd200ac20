package s3

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/smithy-go/logging"

	"github.com/walrecv/walrecv/storage"
)

// setup is what a client is made of.
type setup struct {
	loc     storage.S3
	options Options
	env     map[string]string

	endpoint    string // empty: AWS
	region      string
	http        *awshttp.BuildableClient
	credentials aws.CredentialsProvider
}

// defaultRegion is what stores take that have no regions.
const defaultRegion = "us-east-1"

// newSetup collects it. The order of the sources is that of the AWS programs.
func newSetup(ctx context.Context, loc storage.S3, o Options) (*setup, error) {
	c := &setup{loc: loc, options: o, env: environment(o.Environ)}
	c.endpoint = c.first(loc.Endpoint, "AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL")
	c.region = c.first(loc.Region, "AWS_REGION", "AWS_DEFAULT_REGION")
	var err error
	if c.http, err = c.httpClient(); err != nil {
		return nil, err
	}
	if c.credentials, err = c.provider(ctx); err != nil {
		return nil, err
	}
	switch {
	case c.region != "":
	case c.endpoint != "":
		c.region = defaultRegion
	default:
		return nil, errors.New("no region: add region= to the archive URL, or set AWS_REGION")
	}
	return c, nil
}

// environment turns os.Environ's form into a map. Of several the last counts.
func environment(environ []string) map[string]string {
	env := make(map[string]string, len(environ))
	for _, pair := range environ {
		name, value, _ := strings.Cut(pair, "=")
		env[name] = value
	}
	return env
}

// first is the value that was given, or else that of the first variable that has
// one.
func (c *setup) first(given string, names ...string) string {
	for _, name := range names {
		if given == "" {
			given = c.env[name]
		}
	}
	return given
}

// where names the store in messages.
func (c *setup) where() string {
	if c.endpoint != "" {
		return fmt.Sprintf("bucket %s at %s", c.loc.Bucket, c.endpoint)
	}
	return fmt.Sprintf("bucket %s in %s", c.loc.Bucket, c.region)
}

func (c *setup) pathStyle() bool {
	if c.loc.PathStyle == "" {
		return c.endpoint != ""
	}
	return c.loc.PathStyle == "true"
}

func (c *setup) client() *s3.Client {
	o := s3.Options{
		Region:       c.region,
		Credentials:  c.credentials,
		HTTPClient:   c.http,
		UsePathStyle: c.pathStyle(),
		Retryer:      c.retryer(),
		// Put gives a digest of its own, in a header. What comes back has its
		// own digest inside.
		RequestChecksumCalculation: aws.RequestChecksumCalculationWhenRequired,
		ResponseChecksumValidation: aws.ResponseChecksumValidationWhenRequired,
		// A second of waiting for stores that do not know it, a round trip for
		// the others; only a key that is taken would save something.
		ContinueHeaderThresholdBytes: -1,
		Logger:                       logging.Nop{},
	}
	if c.endpoint != "" {
		o.BaseEndpoint = aws.String(c.endpoint)
	}
	o.APIOptions = append(o.APIOptions, addDeadlines(c.options.times), addWebPages)
	return s3.New(o)
}

// retryer is the standard one, which also tries again after what two writers of
// one key get of AWS.
func (c *setup) retryer() aws.Retryer {
	standard := retry.NewStandard(func(o *retry.StandardOptions) {
		o.MaxAttempts = 3
		o.MaxBackoff = c.options.times.pause
	})
	return retry.AddWithErrorCodes(standard, "ConditionalRequestConflict", "OperationAborted")
}

// socketBuffer is the most that Linux keeps of what was written to a connection,
// unless told otherwise.
const socketBuffer = 4 << 20

// httpClient has deadlines for everything but the content of requests and
// answers; for that see addDeadlines and body.
func (c *setup) httpClient() (*awshttp.BuildableClient, error) {
	roots, err := c.roots()
	if err != nil {
		return nil, err
	}
	connections := c.options.Connections
	if connections == 0 {
		connections = 16
	}
	return awshttp.NewBuildableClient().WithTransportOptions(func(t *http.Transport) {
		// What was written last may still be on its way out of the kernel.
		t.ResponseHeaderTimeout = c.options.times.answer + time.Duration(socketBuffer/c.options.times.rate)*time.Second
		t.IdleConnTimeout = 90 * time.Second
		t.MaxIdleConns = 0
		t.MaxIdleConnsPerHost = connections
		if roots != nil {
			t.TLSClientConfig = &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}
		}
	}), nil
}

// roots are the certificates to trust; nil: the system's. Those of the
// environment are read only where they can be needed: reading them takes longer
// than a small request.
func (c *setup) roots() (*x509.CertPool, error) {
	file, from := c.loc.CAFile, "ca_file"
	if file == "" && !strings.HasPrefix(c.endpoint, "http:") {
		file, from = c.env["AWS_CA_BUNDLE"], "AWS_CA_BUNDLE"
	}
	if file == "" {
		return nil, nil //nolint:nilnil // no pool of our own
	}
	pem, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", from, err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%s: %s holds no certificates in PEM form", from, file)
	}
	return roots, nil
}
