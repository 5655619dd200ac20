package main

import (
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// verifyConfig is all that "walrecv verify" was told.
type verifyConfig struct {
	archive archiveOptions
	read    readOptions

	deep  bool
	since place
	json  bool
}

// newVerify declares the command.
func (a *app) newVerify() *cobra.Command {
	var cfg verifyConfig
	cmd := &cobra.Command{
		Use:   "verify [OPTION]...",
		Short: "Prove that an archive is sound",
		Long: `Checks that no segment is missing along the timelines, that every object is what
was archived, and that every segment is the one that its name says. With --deep
every page and every record is checked, too.

  0  sound
  1  something could not be checked, and nothing is wrong with the rest
  2  wrong usage or configuration
  3  not sound
  4  an archive of another cluster`,
		Example:               "  walrecv verify --archive /srv/wal --deep",
		DisableFlagsInUseLine: true,
		Args:                  noArguments,
		RunE: a.configured(func() error { return cfg.archive.required("nothing to verify") }, func(cmd *cobra.Command, _ []string) error {
			return a.runVerify(cmd.Context(), cfg)
		}),
	}
	addCommonOptions(cmd)
	addVerifyOptions(cmd.Flags(), &cfg)
	return cmd
}

func addVerifyOptions(fs *pflag.FlagSet, c *verifyConfig) {
	addArchiveOptions(fs, &c.archive)
	addReadOptions(fs, &c.read, onlyCluster)
	boolVar(fs, &c.deep, "deep", "", "check every page and every record")
	fs.Var(sinceValue(&c.since), "since", "leave out what is before `LSN|SEGMENT|TIME|BACKUP`; a time needs an offset, latest is the newest base backup")
	boolVar(fs, &c.json, "json", "", "print one JSON document")
}
