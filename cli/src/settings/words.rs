//! A command in one option: words between blanks, as a shell would take them apart, and nothing else of a shell.

/// Takes `command` apart. Quotes, single or double, keep blanks and the other quote in a word; nothing is expanded, and a
/// backslash is a character like others.
///
/// # Errors
/// What is wrong with it, to follow the name of the option.
pub(super) fn split(command: &str) -> Result<Vec<String>, &'static str> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut open = None;
    for character in command.chars() {
        match open {
            Some(quote) if character == quote => open = None,
            Some(_) => word.get_or_insert_default().push(character),
            None if character == '\'' || character == '"' => {
                open = Some(character);
                // Quotes around nothing are a word too.
                word.get_or_insert_default();
            }
            None if character.is_whitespace() => words.extend(word.take()),
            None => word.get_or_insert_default().push(character),
        }
    }
    if open.is_some() {
        return Err("has a quote that is not closed");
    }
    words.extend(word);
    Ok(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_what_stands_between_blanks_or_in_quotes() {
        assert_eq!(
            split(" vault  read\t-field=token "),
            Ok(["vault", "read", "-field=token"].map(Into::into).into())
        );
        assert_eq!(
            split(r#"'a b' c"d e"f "it's" '' "#),
            Ok(["a b", "cd ef", "it's", ""].map(Into::into).into())
        );
    }

    #[test]
    fn nothing_is_expanded() {
        assert_eq!(
            split(r"a $HOME ~ * \n ; |"),
            Ok(["a", "$HOME", "~", "*", r"\n", ";", "|"].map(Into::into).into())
        );
    }

    #[test]
    fn a_quote_has_two_ends() {
        assert_eq!(split("a 'b"), Err("has a quote that is not closed"));
        assert_eq!(split("  "), Ok(Vec::new()));
    }
}
