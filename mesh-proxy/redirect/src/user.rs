//! A user's number by name, from `/etc/passwd`.
//!
//! Not by the C library, which may ask a directory over the network: that network is what is being changed here.

use anyhow::{Context, Result, bail};

const USERS: &str = "/etc/passwd";

/// The number of the user `name` of this machine.
pub(crate) fn id(name: &str) -> Result<u32> {
    let users = std::fs::read_to_string(USERS).with_context(|| format!("reading {USERS}"))?;
    in_users(&users, name).with_context(|| format!("--proxy-user {name}, in {USERS}"))
}

fn in_users(users: &str, name: &str) -> Result<u32> {
    // name:password:uid:gid:…
    let mut lines = users.lines().map(|line| line.split(':'));
    let Some(id) = lines.find_map(|mut fields| (fields.next()? == name).then(|| fields.nth(1)).flatten())
    else {
        bail!(
            "there is no such user; expected one whose traffic is the proxy's alone (useradd --system {name})"
        );
    };
    match id.parse() {
        Ok(0) => bail!("it is root, whose traffic is everybody's"),
        Ok(id) => Ok(id),
        Err(_) => bail!("its number is {id:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::in_users;

    const USERS: &str =
        "root:x:0:0:root:/root:/bin/bash\nweft:x:998:997::/:/usr/sbin/nologin\nodd:x:a:1::/:\nshort\n";

    #[test]
    fn a_user_has_its_number_and_nobody_elses() {
        assert_eq!(in_users(USERS, "weft").unwrap(), 998);
        for (name, why) in
            [("wef", "no such user"), ("root", "it is root"), ("odd", "\"a\""), ("short", "no such user")]
        {
            let error = in_users(USERS, name).unwrap_err().to_string();
            assert!(error.contains(why), "{name}: {error}");
        }
    }
}
