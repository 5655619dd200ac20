package monitor

import (
	"runtime"
	"time"

	"github.com/walrecv/walrecv/segment"
)

// Buckets, in seconds: a sync takes from a fraction of a millisecond up, an
// upload from a local link to a slow object store.
var (
	syncBuckets   = []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10}
	uploadBuckets = []float64{.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 120}
)

// The metrics of a receiver. docs/metrics.md has the same names, labels and
// sentences.
var (
	receivedLSN = &metric{"walrecv_received_lsn", gauge, "Position up to which WAL was received, in bytes.", nil}
	writtenLSN  = &metric{"walrecv_written_lsn", gauge, "Position up to which WAL was written to the spool, in bytes.", nil}
	flushedLSN  = &metric{"walrecv_flushed_lsn", gauge, "Position up to which WAL is durable in the spool, in bytes.", nil}
	sealedLSN   = &metric{"walrecv_sealed_lsn", gauge, "End of the newest complete segment of the spool, in bytes.", nil}
	archivedLSN = &metric{"walrecv_archived_lsn", gauge, "Position up to which the archive holds all WAL, in bytes.", nil}
	serverLSN   = &metric{"walrecv_server_lsn", gauge, "Position that the server reported last, in bytes.", nil}

	lagBytes   = &metric{"walrecv_lag_bytes", gauge, "WAL between a stage and the position that the server reported last.", []string{"stage"}}
	lagSeconds = &metric{"walrecv_lag_seconds", gauge, "Time since the server passed the position of a stage, 0 for a stage that has caught up; without a connection at least the time since the server was heard from.", []string{"stage"}}
	unarchived = &metric{"walrecv_oldest_unarchived_seconds", gauge, "How long the oldest file waits that is to be archived and is not, 0 if there is none.", nil}

	spoolBytes = &metric{"walrecv_spool_bytes", gauge, "Size of all files in the spool.", nil}
	spoolMax   = &metric{"walrecv_spool_max_bytes", gauge, "Size that the segments in the spool may have, beyond which nothing is read from the server.", nil}
	paused     = &metric{"walrecv_paused", gauge, "Whether nothing is read from the server because the spool is full: 1 or 0.", nil}
	gaps       = &metric{"walrecv_gaps", gauge, "Ranges of WAL that are missing, and that the operator agreed to go on without.", nil}
	timeline   = &metric{"walrecv_timeline", gauge, "Timeline that is received.", nil}
	streaming  = &metric{"walrecv_streaming", gauge, "Whether WAL is being streamed: 1 or 0.", nil}

	lastBackup   = &metric{"walrecv_last_backup_timestamp_seconds", gauge, "When the newest good base backup in the archive ended, in seconds since 1970.", nil}
	lastDrill    = &metric{"walrecv_last_drill_timestamp_seconds", gauge, "When the last restore drill ended, in seconds since 1970.", nil}
	drillSuccess = &metric{"walrecv_last_drill_success", gauge, "Whether the last restore drill succeeded: 1 or 0.", nil}

	walBytes       = &metric{"walrecv_wal_bytes_total", counter, "WAL received since the start.", nil}
	verifyFailures = &metric{"walrecv_wal_verify_failures_total", counter, "Places of received WAL that were not sound.", nil}
	reconnects     = &metric{"walrecv_reconnects_total", counter, "How often streaming began again on a new connection.", nil}
	buildInfo      = &metric{"walrecv_build_info", gauge, "The version that runs, as labels; always 1.", []string{"commit", "goversion", "version"}}

	uploads  = &metric{"walrecv_uploads_total", counter, "Tries to upload something to the archive that ended.", []string{"kind", "result"}}
	requests = &metric{"walrecv_store_requests_total", counter, "Requests to the store of the archive that ended.", []string{"op", "result"}}
	syncs    = &metric{"walrecv_sync_seconds", histogram, "How long syncs of the spool took.", nil}
	uploaded = &metric{"walrecv_upload_seconds", histogram, "How long tries to upload something to the archive took that succeeded.", nil}
)

// page collects what is known. Without an archive there are no metrics of one.
func (m *Monitor) page() *page {
	now, s := time.Now(), m.o.State()
	p := &page{}
	p.process(m.began)
	p.state(s)
	for _, l := range m.lags(s, now) {
		p.add(lagBytes, float64(l.bytes), l.stage)
		p.add(lagSeconds, l.seconds, l.stage)
	}
	if spool, known := m.o.Spool(); known {
		p.add(spoolBytes, float64(spool.Bytes))
		p.add(gaps, float64(spool.Gaps))
	}
	p.add(buildInfo, 1, m.o.Commit, runtime.Version(), m.o.Version)
	m.syncs.collect(p)
	if m.o.Archive {
		m.archive(p, s, now)
	}
	return p
}

func (p *page) state(s State) {
	p.position(receivedLSN, s.Received)
	p.position(writtenLSN, s.Written)
	p.position(flushedLSN, s.Flushed)
	p.position(sealedLSN, s.Sealed)
	p.position(serverLSN, s.Server)
	if s.Timeline != 0 {
		p.add(timeline, float64(s.Timeline))
	}
	p.add(streaming, boolean(s.Streaming))
	p.add(walBytes, float64(s.WALBytes))
	p.add(verifyFailures, float64(s.VerifyFailures))
	p.add(reconnects, float64(s.Reconnects))
}

// archive adds what is there only with one.
func (m *Monitor) archive(p *page, s State, now time.Time) {
	p.position(archivedLSN, s.Archived)
	if waits, known := s.unarchived(now); known {
		p.add(unarchived, waits.Seconds())
	}
	if s.SpoolMax != 0 {
		p.add(spoolMax, float64(s.SpoolMax))
	}
	p.add(paused, boolean(!s.PausedSince.IsZero()))
	if proof, known := m.o.Proof(); known {
		p.proof(proof)
	}
	m.uploads.collect(p)
	m.uploaded.collect(p)
	m.requests.collect(p)
}

// position adds one that is known.
func (p *page) position(m *metric, at segment.LSN) {
	if at != 0 {
		p.add(m, float64(at))
	}
}

func (p *page) proof(proof Proof) {
	if !proof.LastBackup.IsZero() {
		p.add(lastBackup, seconds(proof.LastBackup))
	}
	if !proof.LastDrill.IsZero() {
		p.add(lastDrill, seconds(proof.LastDrill))
		p.add(drillSuccess, boolean(proof.DrillSuccess))
	}
}

// seconds is a time as Prometheus has it.
func seconds(t time.Time) float64 { return float64(t.UnixMilli()) / 1000 }

func boolean(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
