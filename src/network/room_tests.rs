//! How many Pods there is room for.

use super::*;

/// A root that has a /24 of an earlier version goes on with it, and gets a wider
/// subnet when no Pod is left.
#[test]
fn an_earlier_subnet_is_kept_while_there_are_pods() {
    on_a_machine("earlier", |m| {
        let network = m.layout.network();
        std::fs::create_dir_all(&network).unwrap();
        let earlier: Subnet = "10.200.1.0/24".parse().unwrap();
        let mut leases = Leases::default();
        leases.take(earlier, "a", "default/a", &[]).unwrap();
        leases.save(&network).unwrap();
        let mut record = record::Bridge::new(&m.host().bridge, earlier, 1500);
        record.complete = true;
        record.save(&network).unwrap();
        let b = m.start("b", &[]);
        assert_eq!(b.net.prefix, 24);
        assert_eq!(b.net.address, Ipv4Addr::from([10, 200, 1, 3]));

        m.enter(&m.netns);
        assert_eq!(gc(&m.layout, |_| false).unwrap(), ["a", "b"]);
        assert!(remove_bridge_if_unused(&m.layout).unwrap());
        assert_eq!(m.start("c", &[]).net.prefix, 22);
        m.enter(&m.netns);
        detach(&m.layout, "c").unwrap();
        assert!(remove_bridge_if_unused(&m.layout).unwrap());
    });
}

/// The kernel's limit is a bridge's ports, and the error says so; more than a /24 has
/// addresses are there before.
#[test]
fn a_bridge_without_a_free_port_is_named() {
    on_a_machine("ports-of-bridge", |m| {
        let _a = m.start("a", &[]);
        let host = m.host();
        let bridge = route::link(&host.route, &host.bridge).unwrap().unwrap();
        let far = m.new_netns();
        m.enter(&m.netns);
        for i in 1..1023 {
            let (here, there) = (format!("port{i}"), format!("peer{i}"));
            let pair = route::Pair {
                host: &here,
                pod: &there,
                pod_mac: route::mac_of(i.into()),
                mtu: 1500,
                bridge: bridge.index,
            };
            let mut batch = Batch::default();
            route::put_pair(&mut batch, &pair, far.as_fd());
            host.route.send_all(batch).unwrap();
        }
        let e = m.try_start("b", &[]).err().expect("a Pod without a port");
        assert_eq!(e.errno(), Some(Errno::EXFULL), "{e}");
        let text = e.to_string();
        assert!(
            text.contains("has 1023 ports, the most that Linux gives"),
            "{text}"
        );
        // One Pod fewer, and there is room again.
        m.enter(&m.netns);
        route::delete_link(&host.route, "port7").unwrap();
        let _b = m.start("b", &[]);
        m.enter(&m.netns);
        assert_eq!(gc(&m.layout, |_| false).unwrap(), ["a", "b"]);
        assert!(remove_bridge_if_unused(&m.layout).unwrap());
    });
}
