//! The graph of a report, as other programs read it.

use super::report::{JourneyReport, Transition};
use serde_json::{Value, json};
use std::fmt::Write;

/// Where visits begin and end, as nodes.
const BEGINNING: &str = "(begin)";
const END: &str = "(end)";

fn ends(transition: &Transition) -> (&str, &str) {
    (transition.from.as_deref().unwrap_or(BEGINNING), transition.to.as_deref().unwrap_or(END))
}

impl JourneyReport {
    fn nodes(&self) -> impl Iterator<Item = &str> {
        self.states.iter().map(|state| state.state.as_str()).chain([BEGINNING, END])
    }

    /// As networkx' `node_link_graph` reads it.
    pub fn node_link(&self) -> Value {
        let nodes: Vec<Value> = self.nodes().map(|node| json!({ "id": node })).collect();
        let edge = |transition: &Transition| {
            let (source, target) = ends(transition);
            json!({ "source": source, "target": target, "weight": transition.count, "probability": transition.probability })
        };
        let edges: Vec<Value> = self.transitions.iter().map(edge).collect();
        json!({ "directed": true, "multigraph": false, "graph": {}, "nodes": nodes, "edges": edges })
    }

    /// As networkx' `read_graphml`, Gephi and yEd read it.
    pub fn graphml(&self) -> String {
        let mut text = concat!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n",
            "<graphml xmlns=\"http://graphml.graphdrawing.org/xmlns\">\n",
            "  <key id=\"weight\" for=\"edge\" attr.name=\"weight\" attr.type=\"long\"/>\n",
            "  <key id=\"probability\" for=\"edge\" attr.name=\"probability\" attr.type=\"double\"/>\n",
            "  <graph edgedefault=\"directed\">\n"
        )
        .to_owned();
        for node in self.nodes() {
            let _ = writeln!(text, "    <node id=\"{}\"/>", escaped(node));
        }
        for transition in &self.transitions {
            let (source, target) = ends(transition);
            let _ = writeln!(
                text,
                "    <edge source=\"{}\" target=\"{}\"><data key=\"weight\">{}</data><data key=\"probability\">{}</data></edge>",
                escaped(source),
                escaped(target),
                transition.count,
                transition.probability,
            );
        }
        text.push_str("  </graph>\n</graphml>\n");
        text
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
