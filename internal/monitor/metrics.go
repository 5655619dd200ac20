package monitor

import (
	"net/http"
	"runtime"
	"slices"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/walrecv/walrecv/segment"
)

// Buckets, in seconds: a sync takes from a fraction of a millisecond up, an
// upload from a local link to a slow object store.
var (
	syncBuckets   = []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10}
	uploadBuckets = []float64{.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 120}
)

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("walrecv_"+name, help, labels, nil)
}

// What is read from the state when it is asked for. docs/metrics.md has the same
// names, labels and sentences.
var (
	receivedLSN = desc("received_lsn", "Position up to which WAL was received, in bytes.")
	writtenLSN  = desc("written_lsn", "Position up to which WAL was written to the spool, in bytes.")
	flushedLSN  = desc("flushed_lsn", "Position up to which WAL is durable in the spool, in bytes.")
	sealedLSN   = desc("sealed_lsn", "End of the newest complete segment, in bytes; until there is one, where streaming began.")
	archivedLSN = desc("archived_lsn", "Position up to which the archive holds all WAL, in bytes.")
	serverLSN   = desc("server_lsn", "Position that the server reported last, in bytes.")

	lagBytes   = desc("lag_bytes", "WAL between a stage and the position that the server reported last.", "stage")
	lagSeconds = desc("lag_seconds", "Time since the server passed the position of a stage, 0 for a stage that has caught up; without a connection at least the time since the server was heard from.", "stage")
	unarchived = desc("oldest_unarchived_seconds", "How long the oldest file waits that is to be archived and is not, 0 if there is none.")

	spoolBytes = desc("spool_bytes", "Size of all files in the spool.")
	spoolMax   = desc("spool_max_bytes", "Size that the segments in the spool may have, beyond which nothing is read from the server.")
	paused     = desc("paused", "Whether nothing is read from the server because the spool is full: 1 or 0.")
	gaps       = desc("gaps", "Ranges of WAL that are missing, and that the operator agreed to go on without.")
	timeline   = desc("timeline", "Timeline that is received.")
	streaming  = desc("streaming", "Whether WAL is being streamed: 1 or 0.")

	clusterInfo    = desc("cluster_info", "The cluster that is received, as a label; always 1.", "system_identifier")
	waitingForSlot = desc("waiting_for_slot", "Whether it waits for its replication slot, which another program uses: 1 or 0.")

	slotKnown    = desc("slot_known", "Whether the server told of the replication slot when it was asked last: 1 or 0.")
	slotStatus   = desc("slot_wal_status", "1 for what wal_status of the replication slot is, 0 for what it is not.", "status")
	slotActive   = desc("slot_active", "Whether somebody streams from the replication slot: 1 or 0.")
	slotRetained = desc("slot_retained_bytes", "WAL that the server keeps for the replication slot.")
	slotSafe     = desc("slot_safe_wal_bytes", "WAL that the server can still write before the replication slot may be lost.")

	lastBackup   = desc("last_backup_timestamp_seconds", "When the newest good base backup in the archive ended, in seconds since 1970.")
	lastDrill    = desc("last_drill_timestamp_seconds", "When the last restore drill ended, in seconds since 1970.")
	drillSuccess = desc("last_drill_success", "Whether the last restore drill succeeded: 1 or 0.")

	walBytes       = desc("wal_bytes_total", "WAL received since the start.")
	verifyFailures = desc("wal_verify_failures_total", "Places of received WAL that were not sound.")
	reconnects     = desc("reconnects_total", "How often streaming began again on a new connection.")
	buildInfo      = desc("build_info", "The version that runs, as labels; always 1.", "version", "commit", "goversion")
)

// always are the metrics that do not need an archive, archiveOnly those that do, and
// slotOnly those that need the server to be asked for the slot.
var (
	always = []*prometheus.Desc{
		receivedLSN, writtenLSN, flushedLSN, sealedLSN, serverLSN, lagBytes, lagSeconds, spoolBytes, gaps,
		timeline, streaming, clusterInfo, waitingForSlot, walBytes, verifyFailures, reconnects, buildInfo,
	}
	archiveOnly = []*prometheus.Desc{archivedLSN, unarchived, spoolMax, paused, lastBackup, lastDrill, drillSuccess}
	slotOnly    = []*prometheus.Desc{slotKnown, slotStatus, slotActive, slotRetained, slotSafe}
)

// register makes the registry. Without an archive there are no metrics of one.
func (m *Monitor) register() {
	m.syncs = prometheus.NewHistogram(prometheus.HistogramOpts{
		Name: "walrecv_sync_seconds", Help: "How long syncs of the spool took.", Buckets: syncBuckets,
	})
	m.uploads = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "walrecv_uploads_total", Help: "Tries to upload something to the archive that ended.",
	}, []string{"kind", "result"})
	m.uploaded = prometheus.NewHistogram(prometheus.HistogramOpts{
		Name: "walrecv_upload_seconds", Help: "How long tries to upload something to the archive took that succeeded.", Buckets: uploadBuckets,
	})
	m.requests = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "walrecv_store_requests_total", Help: "Requests to the store of the archive that ended.",
	}, []string{"op", "result"})
	m.registry.MustRegister(
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		(*collector)(m), m.syncs,
	)
	if m.o.Archive {
		m.registry.MustRegister(m.uploads, m.uploaded, m.requests)
	}
}

// Metrics answers Prometheus. What one collector cannot tell does not hide what the
// others can.
func (m *Monitor) Metrics() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{ErrorHandling: promhttp.ContinueOnError})
}

// collector is a Monitor as a [prometheus.Collector].
type collector Monitor

// Describe implements [prometheus.Collector].
func (c *collector) Describe(descs chan<- *prometheus.Desc) {
	all := always
	if c.o.Archive {
		all = slices.Concat(all, archiveOnly)
	}
	if c.o.Slot != nil {
		all = slices.Concat(all, slotOnly)
	}
	for _, d := range all {
		descs <- d
	}
}

// Collect implements [prometheus.Collector]. What is not known is left out.
func (c *collector) Collect(metrics chan<- prometheus.Metric) {
	m := (*Monitor)(c)
	now, s := time.Now(), m.o.State()
	e := emitter{metrics}
	e.positions(s, m.o.Archive)
	for _, l := range m.lags(s, now) {
		e.gauge(lagBytes, float64(l.bytes), l.stage)
		e.gauge(lagSeconds, l.seconds, l.stage)
	}
	if m.o.Archive {
		if waits, known := s.unarchived(now); known {
			e.gauge(unarchived, waits.Seconds())
		}
		if s.SpoolMax != 0 {
			e.gauge(spoolMax, float64(s.SpoolMax))
		}
		e.gauge(paused, boolean(!s.PausedSince.IsZero()))
		e.proof(m.o.Proof())
	}
	if slot, asked, known := m.slot(); asked {
		e.slot(slot, known)
	}
	if spool, known := m.o.Spool(); known {
		e.gauge(spoolBytes, float64(spool.Bytes))
		e.gauge(gaps, float64(spool.Gaps))
	}
	if s.Cluster.SystemID != 0 {
		e.gauge(clusterInfo, 1, strconv.FormatUint(s.Cluster.SystemID, 10))
	}
	if s.Timeline != 0 {
		e.gauge(timeline, float64(s.Timeline))
	}
	e.gauge(streaming, boolean(s.Streaming))
	e.gauge(waitingForSlot, boolean(s.ForSlot))
	e.counter(walBytes, s.WALBytes)
	e.counter(verifyFailures, s.VerifyFailures)
	e.counter(reconnects, s.Reconnects)
	e.gauge(buildInfo, 1, m.o.Version, m.o.Commit, runtime.Version())
}

// emitter sends metrics.
type emitter struct{ to chan<- prometheus.Metric }

func (e emitter) gauge(d *prometheus.Desc, value float64, labels ...string) {
	e.to <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, value, labels...)
}

func (e emitter) counter(d *prometheus.Desc, value uint64) {
	e.to <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(value))
}

func (e emitter) position(d *prometheus.Desc, at segment.LSN) {
	if at != 0 {
		e.gauge(d, float64(at))
	}
}

func (e emitter) proof(p Proof, known bool) {
	if !known {
		return
	}
	if !p.LastBackup.IsZero() {
		e.gauge(lastBackup, seconds(p.LastBackup))
	}
	if !p.LastDrill.IsZero() {
		e.gauge(lastDrill, seconds(p.LastDrill))
		e.gauge(drillSuccess, boolean(p.DrillSuccess))
	}
}

// seconds is a time as Prometheus has it.
func seconds(t time.Time) float64 { return float64(t.UnixMilli()) / 1000 }

func (e emitter) positions(s State, archive bool) {
	e.position(receivedLSN, s.Received)
	e.position(writtenLSN, s.Written)
	e.position(flushedLSN, s.Flushed)
	e.position(sealedLSN, s.Sealed)
	e.position(serverLSN, s.Server)
	if archive {
		e.position(archivedLSN, s.Archived)
	}
}

func boolean(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
