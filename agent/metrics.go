package agent

import "github.com/prometheus/client_golang/prometheus"

var (
	descRevision = prometheus.NewDesc("resolverd_agent_revision", "Revision of the store that the agent's view shows.", nil, nil)
	descInstance = prometheus.NewDesc("resolverd_agent_registered", "What is registered, by kind.", []string{"kind"}, nil)
	descStore    = prometheus.NewDesc("resolverd_agent_store_bytes", "Size of the store's file, and how much of it is in use.", []string{"state"}, nil)
	descPeers    = prometheus.NewDesc("resolverd_agent_followers", "Answerers that follow the relay.", nil, nil)
)

// Describe is of prometheus.Collector.
func (a *agent) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{descRevision, descInstance, descStore, descPeers} {
		ch <- d
	}
}

// Collect is of prometheus.Collector.
func (a *agent) Collect(ch chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	s := a.view.Load()
	services, nodes, _ := s.Counts()
	instances := 0
	for v := range s.Services() {
		instances += len(v.Instances)
	}
	gauge(descRevision, float64(s.Revision))
	gauge(descInstance, float64(services), "service")
	gauge(descInstance, float64(nodes), "node")
	gauge(descInstance, float64(instances), "instance")
	file, used := a.store.Size()
	gauge(descStore, float64(file), "file")
	gauge(descStore, float64(used), "used")
	gauge(descPeers, float64(len(a.hub.Peers())))
}
