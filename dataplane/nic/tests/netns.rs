//! Queue pairs on real veths in namespaces of their own. Needs root and iproute2; skips, and says so, without root.

mod netns {
    mod bulk;
    mod errors;
    mod forwarding;
    mod lab;
    mod node;
    mod program;
    mod traffic;
    mod wire;
}
