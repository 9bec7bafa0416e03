package main

import (
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink"
)

// hostAddress returns the address by which other hosts reach this one: the first
// global address of the interface with the default route, IPv4 before IPv6; loopback
// where there is no default route.
func hostAddress() (netip.Addr, error) {
	loopback := netip.MustParseAddr("127.0.0.1")
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		routes, err := netlink.RouteList(nil, family)
		if err != nil {
			return loopback, fmt.Errorf("routes: %w", err)
		}
		best := -1
		for i, r := range routes {
			if r.LinkIndex == 0 || (r.Dst != nil && !isDefault(r)) {
				continue
			}
			if best < 0 || r.Priority < routes[best].Priority {
				best = i
			}
		}
		if best < 0 {
			continue
		}
		if a, ok := netip.AddrFromSlice(routes[best].Src); ok && a.Unmap().IsGlobalUnicast() {
			return a.Unmap(), nil
		}
		link, err := netlink.LinkByIndex(routes[best].LinkIndex)
		if err != nil {
			return loopback, fmt.Errorf("interface %d: %w", routes[best].LinkIndex, err)
		}
		addrs, err := netlink.AddrList(link, family)
		if err != nil {
			return loopback, fmt.Errorf("addresses of %s: %w", link.Attrs().Name, err)
		}
		for _, a := range addrs {
			if ip, ok := netip.AddrFromSlice(a.IP); ok && ip.Unmap().IsGlobalUnicast() {
				return ip.Unmap(), nil
			}
		}
	}
	return loopback, nil
}

func isDefault(r netlink.Route) bool {
	ones, _ := r.Dst.Mask.Size()
	return ones == 0
}
