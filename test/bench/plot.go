package main

import (
	"encoding/xml"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
)

// series is one line of a plot.
type series struct {
	name string
	x, y []float64
}

// svg collects the elements of one picture.
type svg struct {
	strings.Builder
	width, height int
}

const (
	plotWidth             = 860
	left, right, top, low = 70.0, 190.0, 46.0, 50.0
)

var colours = map[string]string{
	ours: "#c0392b", oursLogged: "#e08e85", oursChurn: "#d4665b", "floor": "#7f8c8d", "unbound": "#2471a3",
	"dnsdist": "#8e44ad", "bind": "#117a65", "knot-resolver": "#b9770e", "pdns-recursor": "#6c3483",
	"dnsmasq": "#1e8449", "coredns": "#34495e", "consul": "#ca2171",
}

func colour(name string) string {
	if c := colours[name]; c != "" {
		return c
	}
	return "#555555"
}

func newSVG(width, height int, title string) *svg {
	s := &svg{width: width, height: height}
	fmt.Fprintf(s, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" viewBox="0 0 %d %d" font-family="sans-serif" font-size="12">`+"\n", width, height, width, height)
	fmt.Fprintf(s, `<rect width="%d" height="%d" fill="#ffffff"/>`+"\n", width, height)
	s.text(left, 24, "start", title, `font-size="15" font-weight="bold"`)
	return s
}

func (s *svg) text(x, y float64, anchor, text, more string) {
	fmt.Fprintf(s, `<text x="%.1f" y="%.1f" text-anchor="%s" fill="#222222" %s>`, x, y, anchor, more)
	_ = xml.EscapeText(s, []byte(text)) // a Builder takes everything
	s.WriteString("</text>\n")
}

func (s *svg) line(x1, y1, x2, y2 float64, stroke string) {
	fmt.Fprintf(s, `<line x1="%.1f" y1="%.1f" x2="%.1f" y2="%.1f" stroke="%s"/>`+"\n", x1, y1, x2, y2, stroke)
}

func (s *svg) end() string { return s.String() + "</svg>\n" }

// drawBars shows the CPU of each server in each table, user time darker.
func drawBars(title string, tables []table) string {
	const bar, gap, group = 17.0, 3.0, 34.0
	h := top + 20
	largest := 0.0
	for _, t := range tables {
		h += group + float64(len(t.lines))*(bar+gap)
		for _, l := range t.lines {
			largest = max(largest, l.cpu)
		}
	}
	s := newSVG(plotWidth, int(h), title)
	const begin = 200.0
	scale := (plotWidth - begin - 110) / max(largest, 1e-9)
	y := top
	for _, t := range tables {
		s.text(left, y+16, "start", t.mode.title(), `font-weight="bold"`)
		y += group - 8
		for _, l := range t.lines {
			s.text(begin-8, y+13, "end", l.name, "")
			fmt.Fprintf(s, `<rect x="%.1f" y="%.1f" width="%.1f" height="%.1f" fill="%s" fill-opacity="0.55"/>`+"\n", begin, y, l.cpu*scale, bar, colour(l.name))
			fmt.Fprintf(s, `<rect x="%.1f" y="%.1f" width="%.1f" height="%.1f" fill="%s"/>`+"\n", begin, y, l.user*scale, bar, colour(l.name))
			s.text(begin+l.cpu*scale+6, y+13, "start", fmt.Sprintf("%.1f (%.1f)", l.cpu, l.user), "")
			y += bar + gap
		}
		y += 8
	}
	return s.end()
}

// drawLines shows series over a logarithmic x and y.
func drawLines(title, xName, yName string, l []series) string {
	const height = 460
	s := newSVG(plotWidth, height, title)
	xLow, xHigh, yLow, yHigh := math.Inf(1), 0.0, math.Inf(1), 0.0
	for _, v := range l {
		for i := range v.x {
			if v.x[i] <= 0 || v.y[i] <= 0 {
				continue
			}
			xLow, xHigh = min(xLow, v.x[i]), max(xHigh, v.x[i])
			yLow, yHigh = min(yLow, v.y[i]), max(yHigh, v.y[i])
		}
	}
	if xHigh == 0 {
		return s.end()
	}
	xHigh, yHigh = roundUp(xHigh*1.001), roundUp(yHigh*1.001)
	xLow, yLow = roundUp(xLow)/2, roundUp(yLow)/2.5
	at := func(v, from, to, a, b float64) float64 {
		return a + (b-a)*(math.Log(v)-math.Log(from))/(math.Log(to)-math.Log(from))
	}
	px := func(v float64) float64 { return at(v, xLow, xHigh, left, plotWidth-right) }
	py := func(v float64) float64 { return at(v, yLow, yHigh, height-low, top) }
	for v := roundUp(xLow); v <= xHigh; v = roundUp(v * 1.001) {
		s.line(px(v), top, px(v), height-low, "#e5e5e5")
		s.text(px(v), height-low+18, "middle", axis(v), "")
	}
	for v := roundUp(yLow); v <= yHigh; v = roundUp(v * 1.001) {
		s.line(left, py(v), plotWidth-right, py(v), "#e5e5e5")
		s.text(left-8, py(v)+4, "end", axis(v), "")
	}
	s.text((left+plotWidth-right)/2, height-10, "middle", xName, "")
	s.text(18, (top+height-low)/2, "middle", yName, fmt.Sprintf(`transform="rotate(-90 18 %.1f)"`, (top+height-low)/2))
	for i, v := range l {
		var points []string
		for j := range v.x {
			if v.x[j] > 0 && v.y[j] > 0 {
				points = append(points, fmt.Sprintf("%.1f,%.1f", px(v.x[j]), py(v.y[j])))
			}
		}
		width := 1.5
		if v.name == ours {
			width = 3
		}
		fmt.Fprintf(s, `<polyline points="%s" fill="none" stroke="%s" stroke-width="%.1f"/>`+"\n", strings.Join(points, " "), colour(v.name), width)
		y := top + 14 + float64(i)*20
		fmt.Fprintf(s, `<rect x="%.1f" y="%.1f" width="18" height="4" fill="%s"/>`+"\n", plotWidth-right+16, y-6, colour(v.name))
		s.text(plotWidth-right+42, y, "start", v.name, "")
	}
	return s.end()
}

func axis(v float64) string {
	switch {
	case v >= 1e6:
		return fmt.Sprintf("%gM", v/1e6)
	case v >= 1e3:
		return fmt.Sprintf("%gk", v/1e3)
	}
	return fmt.Sprintf("%g", v)
}

// drawAll writes the plots of every row into dir and returns their file names.
func drawAll(dir string, tables []table) ([]string, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	var made []string
	write := func(name, text string) error {
		made = append(made, name)
		return os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644)
	}
	for _, r := range rows {
		var bars, rates []table
		for _, t := range tables {
			switch {
			case t.row != r.name:
			case t.mode == sweep:
				rates = append(rates, t)
			case t.mode != half && t.mode != even:
				bars = append(bars, t)
			}
		}
		if len(bars) > 0 {
			if err := write(r.name+"-cpu.svg", drawBars(r.title+": CPU us/query (of it user)", bars)); err != nil {
				return nil, err
			}
		}
		if len(rates) == 0 {
			continue
		}
		cpu := byServer(rates, func(s sample) float64 { return s.cpu })
		if err := write(r.name+"-cpu-by-rate.svg", drawLines(r.title+": CPU by rate", "queries/s", "CPU us/query", cpu)); err != nil {
			return nil, err
		}
		p99 := byServer(rates, func(s sample) float64 { return s.p99 })
		if err := write(r.name+"-latency-by-rate.svg", drawLines(r.title+": p99 by rate", "queries/s", "p99 us", p99)); err != nil {
			return nil, err
		}
	}
	return made, nil
}

// byServer turns tables of growing rates into a line for each server.
func byServer(rates []table, of func(sample) float64) []series {
	var l []series
	for _, first := range rates[0].lines {
		v := series{name: first.name}
		for _, t := range rates {
			if s, ok := t.find(first.name); ok {
				v.x, v.y = append(v.x, float64(t.pace)), append(v.y, of(s))
			}
		}
		l = append(l, v)
	}
	return l
}
