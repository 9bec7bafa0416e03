package source

import "github.com/prometheus/client_golang/prometheus"

// meter counts what the files are like.
type meter struct {
	files, broken, services prometheus.Gauge
	refused                 prometheus.Counter
}

func newMeter() *meter {
	gauge := func(name, help string) prometheus.Gauge {
		return prometheus.NewGauge(prometheus.GaugeOpts{Name: name, Help: help})
	}
	return &meter{
		files:    gauge("resolverd_source_files", "Files in services.d that are read."),
		broken:   gauge("resolverd_source_broken_files", "Files in services.d that have a fault now."),
		services: gauge("resolverd_source_services", "Services that the files define."),
		refused: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "resolverd_source_refused_total",
			Help: "Contents of files, and definitions in them, that were refused.",
		}),
	}
}

// Describe implements prometheus.Collector.
func (f *Files) Describe(ch chan<- *prometheus.Desc) { prometheus.DescribeByCollect(f, ch) }

// Collect implements prometheus.Collector. Safe at any time.
func (f *Files) Collect(ch chan<- prometheus.Metric) {
	for _, c := range []prometheus.Collector{f.meter.files, f.meter.broken, f.meter.services, f.meter.refused} {
		c.Collect(ch)
	}
}
