package relay

import "github.com/prometheus/client_golang/prometheus"

var (
	descConnected = prometheus.NewDesc("resolverd_relay_connected", "Whether the answerer follows the agent now: 1 or 0.", nil, nil)
	descSessions  = prometheus.NewDesc("resolverd_relay_sessions_total", "Connections to the agent that it welcomed.", nil, nil)
	descWholes    = prometheus.NewDesc("resolverd_relay_wholes_total", "Times that the whole registry was received.", nil, nil)
	descBatches   = prometheus.NewDesc("resolverd_relay_batches_total", "Batches of changes that were applied to the view.", nil, nil)
	descRecords   = prometheus.NewDesc("resolverd_relay_records_total", "Records in the batches that were applied.", nil, nil)
	descFaults    = prometheus.NewDesc("resolverd_relay_faults_total", "Frames and batches with something that could not be read.", nil, nil)
)

// Describe is of prometheus.Collector.
func (f *Follower) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{descConnected, descSessions, descWholes, descBatches, descRecords, descFaults} {
		ch <- d
	}
}

// Collect is of prometheus.Collector.
func (f *Follower) Collect(ch chan<- prometheus.Metric) {
	s := f.Stats()
	connected := 0.0
	if s.Connected {
		connected = 1
	}
	ch <- prometheus.MustNewConstMetric(descConnected, prometheus.GaugeValue, connected)
	for _, c := range []struct {
		desc *prometheus.Desc
		n    uint64
	}{{descSessions, s.Sessions}, {descWholes, s.Wholes}, {descBatches, s.Batches}, {descRecords, s.Records}, {descFaults, s.Faults}} {
		ch <- prometheus.MustNewConstMetric(c.desc, prometheus.CounterValue, float64(c.n))
	}
}
