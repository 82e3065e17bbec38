//! `wire!` turns a table of fields and version ranges, which reads like Kafka's own message guide,
//! into a struct with its default, its reading and its writing. It knows no API.

/// One struct a table. A line of it is `name: type = default, versions;` with `, null versions`
/// behind it where the field may be null in some versions only. A field that a version does not
/// have reads as its default and is not written; a null that a version cannot say is written as
/// empty and refused when read. `tags` are the tagged fields (KIP-482) of flexible versions; one
/// that is absent reads as `None`, one at its type's default is not written, and unknown ones are
/// skipped.
macro_rules! wire {
    ($(
        $(#[$meta:meta])*
        pub struct $name:ident $(<$life:lifetime>)? {
            $(
                $(#[$field_meta:meta])*
                $field:ident: $kind:ty = $default:expr, $versions:expr $(, null $null:expr)?;
            )*
        }
        $(tags {
            $(
                $(#[$tag_meta:meta])*
                $tag:literal => $tag_field:ident: $tag_kind:ty, $tag_versions:expr;
            )*
        })?
    )*) => {$(
        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq)]
        pub struct $name $(<$life>)? {
            $($(#[$field_meta])* pub $field: $kind,)*
            $($($(#[$tag_meta])* pub $tag_field: Option<$tag_kind>,)*)?
        }

        impl $(<$life>)? Default for $name $(<$life>)? {
            fn default() -> Self {
                Self {
                    $($field: $default,)*
                    $($($tag_field: None,)*)?
                }
            }
        }

        impl<'a> $crate::Wire<'a> for $name $(<$life>)? {
            fn read(from: &mut $crate::Reader<'a>) -> Result<Self, $crate::WireError> {
                let version = from.version();
                let mut read = Self::default();
                $(
                    if ($versions).contains(&version) {
                        read.$field = $crate::Wire::read(from)?;
                        $(
                            if !($null).contains(&version) && $crate::Wire::is_null(&read.$field) {
                                return Err($crate::WireError::Null);
                            }
                        )?
                    }
                )*
                if from.flexible() {
                    for _ in 0..from.tag_count()? {
                        #[allow(unused_mut, unused_variables, reason = "most tables have no tags")]
                        let (tag, mut from) = from.tag()?;
                        $($(
                            if tag == $tag && ($tag_versions).contains(&version) {
                                read.$tag_field = Some($crate::Wire::read(&mut from)?);
                            }
                        )*)?
                    }
                }
                Ok(read)
            }

            fn write(&self, to: &mut $crate::Writer) {
                let version = to.version();
                $(
                    if ($versions).contains(&version) {
                        let nullable = true $(&& ($null).contains(&version))?;
                        $crate::Wire::write_or_empty(&self.$field, to, nullable);
                    }
                )*
                if to.flexible() {
                    #[allow(unused_mut, reason = "most tables have no tags")]
                    let mut tags = $crate::primitives::Tags::default();
                    $($(
                        if ($tag_versions).contains(&version)
                            && let Some(value) = &self.$tag_field
                            && *value != Default::default()
                        {
                            tags.push(to, $tag, value);
                        }
                    )*)?
                    tags.write(to);
                }
            }
        }

        #[cfg(test)]
        impl $(<$life>)? $crate::tests::Roll for $name $(<$life>)? {
            fn roll(dice: &mut $crate::tests::Dice) -> Self {
                Self {
                    $($field: $crate::tests::Roll::roll(dice),)*
                    $($($tag_field: $crate::tests::Roll::roll(dice),)*)?
                }
            }
        }
    )*};
}

/// Makes structs nullable: a byte of -1 stands for null, one of 1 before the struct for its being
/// there, in flexible and other versions alike.
macro_rules! nullable {
    ($($name:ident),*) => {$(
        impl<'a> $crate::Wire<'a> for Option<$name<'a>> {
            fn read(from: &mut $crate::Reader<'a>) -> Result<Self, $crate::WireError> {
                if i8::read(from)? < 0 {
                    return Ok(None);
                }
                $name::read(from).map(Some)
            }

            fn write(&self, to: &mut $crate::Writer) {
                match self {
                    None => (-1i8).write(to),
                    Some(value) => {
                        1i8.write(to);
                        value.write(to);
                    }
                }
            }

            fn is_null(&self) -> bool {
                self.is_none()
            }
        }
    )*};
}
