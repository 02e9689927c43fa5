//! The commands that `HttpServers::listening` shows work as they stand.

use std::process::Command;

use super::app::App;

#[test]
fn every_example_is_accepted() {
    let app = App::start(
        "
kind: io.statefun.http.v1/ingress
spec: {id: example/a, address: '127.0.0.1:0', valueType: example/Greet, targets: [example/greeter]}
---
kind: io.statefun.http.v1/ingress
spec: {id: example/b, address: '127.0.0.1:0', path: '/x/{type}/{id}', valueTypes: [example/Packed, example/Greet], targets: [example/greeter]}
---
kind: io.statefun.http.v1/ingress
spec: {id: example/c, address: '127.0.0.1:0', valueType: io.statefun.types/string, targets: [example/greeter], idFrom: {header: X-Id}}
---
kind: io.statefun.http.v1/ingress
spec: {id: example/d, address: '127.0.0.1:0', path: /, valueType: example/Greet, targets: [example/greeter], idFrom: {pointer: /who}, auth: {bearer: sesame}}
---
kind: io.statefun.http.v1/ingress
spec: {id: example/e, address: '127.0.0.1:0', valueType: io.statefun.types/int, targets: [example/greeter]}
---
kind: io.statefun.http.v1/ingress
spec: {id: example/f, address: '127.0.0.1:0', path: /, valueType: example/Greet, routers: [by_name]}
",
    );
    let listening = app.servers.listening();
    assert_eq!(listening.len(), 6);
    assert_eq!(
        (listening[0].method.as_str(), listening[0].path.as_str()),
        ("POST", "/a/{id}")
    );
    assert_eq!(app.servers.bound("example/a"), Some(listening[0].address));
    let curl = Command::new("curl").arg("--version").output().is_ok();
    for place in &listening {
        let example = place.example.as_ref().unwrap();
        assert!(!example.contains("sesame"), "{example}");
        if curl {
            let output = Command::new("sh")
                .args(["-c", example])
                .env("TOKEN", "sesame")
                .env("no_proxy", "*")
                .output();
            assert_eq!(
                String::from_utf8(output.unwrap().stdout).unwrap(),
                "{}",
                "{example}"
            );
        }
    }
    assert_eq!(
        listening[0].example.as_deref(),
        Some(
            format!(
                "curl -X POST http://{}/a/some-id -H 'Content-Type: application/json' -d '{{\"times\":1,\"who\":\"text\"}}'",
                listening[0].address
            )
            .as_str()
        )
    );
    if curl {
        let expected = [
            "some-id number 0",
            "some-id packed text",
            "some-id text text",
            "some-id text×1",
            "text text×1",
            "text text×1",
        ];
        assert_eq!(
            app.log(),
            expected.map(|end| format!("example/greeter/{end}"))
        );
    }
}
