//! The replication sink on a real HBase of each line: one pair of engines a line, every scenario on it.
//!
//! Names are those of the list in the study (A1 to A17).

use super::rig::Rig;
use super::{trouble, writes};
use weir_testkit::engine::hbase::Line;

fn the_sink_keeps_its_promises(line: Line) {
    let mut rig = Rig::start(line);
    writes::run(&mut rig);
    trouble::run(&mut rig);
    rig.end();
}

#[test]
fn the_sink_keeps_its_promises_to_hbase_1_7() {
    the_sink_keeps_its_promises(Line::V1_7);
}

#[test]
fn the_sink_keeps_its_promises_to_hbase_2_4() {
    the_sink_keeps_its_promises(Line::V2_4);
}

#[test]
fn the_sink_keeps_its_promises_to_hbase_2_6() {
    the_sink_keeps_its_promises(Line::V2_6);
}
