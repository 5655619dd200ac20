package s3

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/credentials/ec2rolecreds"
	"github.com/aws/aws-sdk-go-v2/credentials/endpointcreds"
	"github.com/aws/aws-sdk-go-v2/credentials/stscreds"
	"github.com/aws/aws-sdk-go-v2/feature/ec2/imds"
	"github.com/aws/aws-sdk-go-v2/service/sts"
)

// Where keys can come from, as storage.S3Credentials lists them.
const (
	fromEnv         = "env"
	fromProfile     = "profile"
	fromWebIdentity = "web-identity"
	fromIMDS        = "imds"
	fromECS         = "ecs"
)

// The variables that say that keys can be had from there.
const (
	envAccessKey   = "AWS_ACCESS_KEY_ID"
	envSecretKey   = "AWS_SECRET_ACCESS_KEY"       //nolint:gosec // a name
	envTokenFile   = "AWS_WEB_IDENTITY_TOKEN_FILE" //nolint:gosec // a name
	envRole        = "AWS_ROLE_ARN"
	envRelativeURI = "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"
	envFullURI     = "AWS_CONTAINER_CREDENTIALS_FULL_URI"
)

var errNoKeys = fmt.Errorf("no keys for the archive: there is neither %s and %s, nor %s, nor a profile with keys; "+
	"for those of the machine's or the container's role add credentials=imds or credentials=ecs to the archive URL",
	envAccessKey, envSecretKey, envTokenFile)

// provider finds the source of the keys. No source that was not chosen is an
// address: where there is no cloud to answer, asking takes seconds, and a restore
// does it for every segment. The chain of the SDK would ask.
func (c *setup) provider(ctx context.Context) (aws.CredentialsProvider, error) {
	source := c.loc.Credentials
	if source == "" && c.loc.Profile != "" {
		source = fromProfile
	}
	switch source {
	case fromEnv:
		return c.envKeys()
	case fromWebIdentity:
		return c.webIdentity()
	case fromIMDS:
		return c.metadata()
	case fromECS:
		return c.container()
	case fromProfile:
		return c.profile(ctx)
	}
	switch {
	case c.env[envAccessKey] != "" || c.env[envSecretKey] != "":
		return c.envKeys()
	case c.env[envTokenFile] != "":
		return c.webIdentity()
	}
	p, err := c.profile(ctx)
	if missing := (config.SharedConfigProfileNotExistError{}); errors.As(err, &missing) && c.env["AWS_PROFILE"] == "" {
		return nil, errNoKeys
	}
	return p, err
}

func (c *setup) envKeys() (aws.CredentialsProvider, error) {
	for _, name := range []string{envAccessKey, envSecretKey} {
		if c.env[name] == "" {
			return nil, fmt.Errorf("no keys for the archive: %s is not set", name)
		}
	}
	return credentials.NewStaticCredentialsProvider(c.env[envAccessKey], c.env[envSecretKey], c.env["AWS_SESSION_TOKEN"]), nil
}

// webIdentity trades the token of a Kubernetes service account, say, for keys.
func (c *setup) webIdentity() (aws.CredentialsProvider, error) {
	for _, name := range []string{envTokenFile, envRole} {
		if c.env[name] == "" {
			return nil, fmt.Errorf("no keys for the archive: a web identity needs %s, which is not set", name)
		}
	}
	client := sts.New(sts.Options{
		Region:     c.stsRegion(),
		HTTPClient: c.http,
		Retryer:    c.retryer(),
	}, func(o *sts.Options) {
		if endpoint := c.first("", "AWS_ENDPOINT_URL_STS"); endpoint != "" {
			o.BaseEndpoint = &endpoint
		}
	})
	role := stscreds.NewWebIdentityRoleProvider(client, c.env[envRole], stscreds.IdentityTokenFile(c.env[envTokenFile]),
		func(o *stscreds.WebIdentityRoleOptions) { o.RoleSessionName = c.env["AWS_ROLE_SESSION_NAME"] })
	return aws.NewCredentialsCache(role), nil
}

// stsRegion is where keys are asked for; the region of a store that is not AWS
// may be anything.
func (c *setup) stsRegion() string {
	if region := c.first("", "AWS_REGION", "AWS_DEFAULT_REGION"); region != "" {
		return region
	}
	if c.region != "" {
		return c.region
	}
	return defaultRegion
}

// metadata asks the address of the machine's cloud.
func (c *setup) metadata() (aws.CredentialsProvider, error) {
	if strings.EqualFold(c.env["AWS_EC2_METADATA_DISABLED"], "true") {
		return nil, errors.New("no keys for the archive: its URL says credentials=imds, but AWS_EC2_METADATA_DISABLED is true")
	}
	client := imds.New(imds.Options{Endpoint: c.env["AWS_EC2_METADATA_SERVICE_ENDPOINT"]})
	return aws.NewCredentialsCache(ec2rolecreds.New(func(o *ec2rolecreds.Options) { o.Client = client })), nil
}

// container asks the address that a container of ECS or EKS was told.
func (c *setup) container() (aws.CredentialsProvider, error) {
	endpoint := c.env[envFullURI]
	if relative := c.env[envRelativeURI]; relative != "" {
		endpoint = "http://169.254.170.2" + relative
	}
	if endpoint == "" {
		return nil, fmt.Errorf("no keys for the archive: its URL says credentials=ecs, but neither %s nor %s is set", envRelativeURI, envFullURI)
	}
	return aws.NewCredentialsCache(endpointcreds.New(endpoint, func(o *endpointcreds.Options) {
		o.HTTPClient = c.http
		o.AuthorizationToken = c.env["AWS_CONTAINER_AUTHORIZATION_TOKEN"]
		if file := c.env["AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"]; file != "" {
			o.AuthorizationTokenProvider = endpointcreds.TokenProviderFunc(func() (string, error) {
				token, err := os.ReadFile(file)
				return strings.TrimSpace(string(token)), err
			})
		}
	})), nil
}

// profile takes the keys, and the region and the endpoint if nothing else says
// them, from the files that the AWS programs share.
func (c *setup) profile(ctx context.Context) (aws.CredentialsProvider, error) {
	name := c.first(c.loc.Profile, "AWS_PROFILE", "AWS_DEFAULT_PROFILE")
	if name == "" {
		name = "default"
	}
	p, err := config.LoadSharedConfigProfile(ctx, name, func(o *config.LoadSharedConfigOptions) {
		if file := c.env["AWS_CONFIG_FILE"]; file != "" {
			o.ConfigFiles = []string{file}
		}
		if file := c.env["AWS_SHARED_CREDENTIALS_FILE"]; file != "" {
			o.CredentialsFiles = []string{file}
		}
	})
	if err != nil {
		return nil, fmt.Errorf("no keys for the archive: profile %s: %w", name, err)
	}
	if c.region == "" {
		c.region = p.Region
	}
	if p.Credentials.HasKeys() && p.RoleARN == "" {
		return credentials.StaticCredentialsProvider{Value: p.Credentials}, nil
	}
	if err := c.checkProfile(name, p); err != nil {
		return nil, err
	}
	metadata := imds.ClientDisabled
	if c.loc.Credentials == fromProfile { // and so is what the profile says
		metadata = imds.ClientDefaultEnableState
	}
	full, err := config.LoadDefaultConfig(ctx, config.WithSharedConfigProfile(name), config.WithHTTPClient(c.http),
		config.WithRegion(c.stsRegion()), config.WithEC2IMDSClientEnableState(metadata))
	if err != nil {
		return nil, fmt.Errorf("no keys for the archive: profile %s: %w", name, err)
	}
	return full.Credentials, nil
}

// checkProfile refuses a profile for which the SDK would ask an address that
// nobody chose.
func (c *setup) checkProfile(name string, p config.SharedConfig) error {
	last := &p
	for last.Source != nil {
		last = last.Source
	}
	switch {
	case last.CredentialSource != "" && c.loc.Credentials != fromProfile:
		return fmt.Errorf("no keys for the archive: profile %s takes them from %s: add credentials=profile to the archive URL if that is meant", name, last.CredentialSource)
	case last.CredentialSource != "", last.Credentials.HasKeys(), last.CredentialProcess != "", last.WebIdentityTokenFile != "",
		last.SSOSessionName != "", last.SSOStartURL != "", last.LoginSession != "":
		return nil
	case name == "default" && c.loc.Credentials == "" && c.loc.Profile == "":
		return errNoKeys
	}
	return fmt.Errorf("no keys for the archive: profile %s has none", name)
}
