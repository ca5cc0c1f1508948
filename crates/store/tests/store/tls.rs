//! TLS to a PostgreSQL server, requested and verified as the address says.

use llm_router_store::{StoreError, StoreUrl, open};

use crate::support::postgres::Postgres;

#[tokio::test]
async fn certificates_are_checked_as_the_address_says() {
    let Some(mut server) = Postgres::start() else {
        return;
    };
    let plain = server.url("postgres");
    let address = |query: &str| StoreUrl::parse(&format!("{plain}?{query}")).unwrap();
    let refused = |found: Result<_, StoreError>| found.err().map(|error| error.to_string());
    let without = refused(open(&address("sslmode=require")).await).unwrap();
    assert!(without.contains("TLS"), "{without}");

    let root = server.speak_tls();
    server.stop();
    server.run();
    let root = format!("sslrootcert={}", root.display());
    for query in [
        "sslmode=disable".to_owned(),
        "sslmode=prefer".to_owned(),
        "sslmode=require".to_owned(),
        format!("sslmode=require&{root}"),
        format!("sslmode=verify-ca&{root}"),
        format!("{root}&sslmode=verify-full"),
    ] {
        assert_eq!(refused(open(&address(&query)).await), None, "{query}");
    }
    let unknown = refused(open(&address("sslmode=verify-full")).await).unwrap();
    assert!(unknown.contains("certificate verify failed"), "{unknown}");
    let other = plain.replace("127.0.0.1", "localhost.localdomain");
    let wrong_name = StoreUrl::parse(&format!("{other}?sslmode=verify-full&{root}")).unwrap();
    // Where the name resolves at all, the certificate is not for it.
    assert!(open(&wrong_name).await.is_err());
}
