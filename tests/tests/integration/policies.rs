//! Sets of policies that several tests put in force.

/// An administrator administers and fills the local store, and reads nothing; everybody may listen for changes.
pub(crate) const ADMINISTRATION: &str = r#"
@id("administration")
permit (principal == Bursar::Principal::"spiffe://example.org/user/admin",
        action in Bursar::Action::"administer", resource);
@id("write")
permit (principal == Bursar::Principal::"spiffe://example.org/user/admin",
        action == Bursar::Action::"write", resource in Bursar::Backend::"local");
@id("watch")
permit (principal, action == Bursar::Action::"watch", resource == Bursar::System::"broker");
"#;

/// The same, and workloads may use everything.
pub(crate) fn for_workloads() -> String {
    format!(
        "{ADMINISTRATION}\n@id(\"workloads\")\n\
         permit (principal in Bursar::Group::\"spiffe://example.org/workload\", \
         action in Bursar::Action::\"use\", resource);\n"
    )
}
