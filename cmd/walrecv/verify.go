package main

import (
	"context"
	"errors"
	"time"

	"github.com/walrecv/walrecv/internal/verify"
)

// runVerify is the work of "walrecv verify". It changes nothing, so a signal may
// end it at any time, as it ends any program.
func (a *app) runVerify(ctx context.Context, c verifyConfig) error {
	began := time.Now()
	arch, store, err := a.openToRead(ctx, c.archive.location, c.read)
	if err != nil {
		return err
	}
	since, sinceTime, err := c.since.in(ctx, arch)
	if err != nil {
		return err
	}
	v := verify.New(arch, store, verify.Options{Deep: c.deep, Since: since, SinceTime: sinceTime})
	stop := showProgress(a.stderr, v.Progress)
	report, err := v.Run(ctx)
	stop()
	if err != nil {
		return err
	}
	took := time.Since(began)
	if c.json {
		err = writeVerifyJSON(a.stdout, c.archive.location, report, took)
	} else {
		err = writeVerifyText(a.stdout, report, took)
	}
	return errors.Join(err, verdict(report))
}

// verdict gives the exit code. What it is for was printed already.
func verdict(r *verify.Report) error {
	switch {
	case !r.Sound():
		return &codedError{exitUnsound, errors.New("")}
	case !r.Complete():
		return &codedError{exitFailed, errors.New("")}
	}
	return nil
}
