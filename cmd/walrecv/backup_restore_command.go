package main

import (
	"os"
	"path/filepath"
	"slices"
	"strconv"

	"github.com/spf13/pflag"

	"github.com/walrecv/walrecv/internal/recovery"
	"github.com/walrecv/walrecv/storage"
)

// restoreCommand is the restore_command of a restored server. It has all that came
// from this command line and environment, which the server does not know.
func (a *app) restoreCommand(c backupRestoreConfig, system uint64) (string, error) {
	self, err := os.Executable()
	if err != nil {
		return "", err
	}
	var args []string
	if c.config != "" {
		args = append(args, "--"+configOption, c.config)
	}
	location := withEnvironment(c.archive.location, environment(a.environ))
	args = append(args, "--archive", location.String(), "--system-id", strconv.FormatUint(system, 10))
	if c.read.decryptWith != "" {
		args = append(args, "--decrypt-with", c.read.decryptWith)
	}
	more, err := a.restoreVariables(args)
	return recovery.Command(self, append(args, more...)), err
}

// restoreVariables are the options of restore that are variables here, besides those
// in args.
func (a *app) restoreVariables(args []string) (more []string, err error) {
	env := environment(a.environ)
	a.newRestore().Flags().VisitAll(func(f *pflag.Flag) {
		option, value := "--"+f.Name, env[environmentName(f)]
		if value == "" || slices.Contains(args, option) || err != nil {
			return
		}
		if f.Name == "spool" {
			value, err = filepath.Abs(value)
		}
		more = append(more, option, value)
	})
	return more, err
}

// withEnvironment completes the URL of an archive in S3 with what is no secret.
func withEnvironment(l storage.Location, env map[string]string) storage.Location {
	if l.Scheme != storage.SchemeS3 {
		return l
	}
	complete := l
	for _, p := range []struct {
		field *string
		names []string
	}{
		{&complete.S3.Endpoint, []string{"AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"}},
		{&complete.S3.Region, []string{"AWS_REGION", "AWS_DEFAULT_REGION"}},
		{&complete.S3.CAFile, []string{"AWS_CA_BUNDLE"}},
	} {
		for _, name := range p.names {
			if *p.field == "" {
				*p.field = env[name]
			}
		}
	}
	// With keys in the environment a profile would win over them.
	if env["AWS_ACCESS_KEY_ID"] == "" && env["AWS_WEB_IDENTITY_TOKEN_FILE"] == "" && complete.S3.Credentials == "" && complete.S3.Profile == "" {
		complete.S3.Profile = env["AWS_PROFILE"]
	}
	if parsed, err := storage.ParseURL(complete.String()); err != nil || parsed != complete {
		return l // a relative path, say; the trial of the command will tell
	}
	return complete
}

// storeVariables are all that a store in S3 takes from the environment.
func storeVariables(l storage.Location, env map[string]string) (set []string) {
	if l.Scheme != storage.SchemeS3 {
		return nil
	}
	for _, name := range []string{
		"AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_REGION", "AWS_DEFAULT_REGION", "AWS_CA_BUNDLE", "AWS_PROFILE", "AWS_DEFAULT_PROFILE",
	} {
		if env[name] != "" {
			set = append(set, name)
		}
	}
	return append(set, secretVariables(l, env)...)
}

// secretVariables are what a store in S3 takes from the environment and no URL may
// have.
func secretVariables(l storage.Location, env map[string]string) (set []string) {
	if l.Scheme != storage.SchemeS3 {
		return nil
	}
	for _, name := range []string{
		"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE",
		"AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_ROLE_ARN", "AWS_ROLE_SESSION_NAME", "AWS_ENDPOINT_URL_STS",
		"AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "AWS_CONTAINER_CREDENTIALS_FULL_URI", "AWS_CONTAINER_AUTHORIZATION_TOKEN",
		"AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
	} {
		if env[name] != "" {
			set = append(set, name)
		}
	}
	return set
}
