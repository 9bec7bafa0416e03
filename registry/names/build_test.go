package names_test

import (
	"github.com/resolverd/resolverd/registry"
	"github.com/resolverd/resolverd/registry/names/scene"
)

// sceneView is a small registry with something of every kind.
func sceneView() *registry.View {
	return scene.New(`
node n1 10.0.0.1 meta.rack=r7
node n2 10.0.0.2 network.lan_ipv6=fd00::2
node box.rack2 10.0.0.3
instance n1/web1 web 10.0.1.1:8080 tags=prod,v1.2
instance n1/web2 web :8081 weight=10
instance n2/web3 web [fd00::3]:80
instance n2/ext ext www.example.com:443
role primary web n1/web1
`)
}
