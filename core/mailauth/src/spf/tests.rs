//! The suite of RFC 7208 (openspf.org, release 2014.04), every case through [`super::evaluate`].
