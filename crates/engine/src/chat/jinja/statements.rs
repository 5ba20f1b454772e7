//! Tokens to the syntax tree: the statements.

use super::ast::{Body, Call, Expr, For, MacroDef, Stmt, StmtKind, Target};
use super::error::Error;
use super::lexer::{Token, tokenize};
use super::parser::Parser;

type Result<T> = std::result::Result<T, Error>;

/// Parses a whole template, nested at most `depth_max` deep.
pub(super) fn parse(source: &str, depth_max: usize) -> Result<Body> {
    let mut parser = Parser::new(tokenize(source)?, depth_max);
    let body = parser.body(&[])?;
    match parser.peek() {
        Token::End => Ok(body),
        _ => parser.unexpected("the end of the template"),
    }
}

impl Parser {
    /// Statements up to a tag that `ends` names, which is left at its name; or to the end of the template if none
    /// is named.
    fn body(&mut self, ends: &[&str]) -> Result<Body> {
        self.nested(|parser| parser.body_here(ends))
    }

    fn body_here(&mut self, ends: &[&str]) -> Result<Body> {
        let mut body = Vec::new();
        loop {
            let line = self.line();
            let kind = match self.next() {
                Token::Data(text) => StmtKind::Text(text),
                Token::OutputStart => {
                    let expr = self.expressions()?;
                    self.expect(&Token::OutputEnd, "`}}`")?;
                    StmtKind::Output(expr)
                }
                Token::BlockStart => {
                    if ends.iter().any(|end| self.is_name(end)) {
                        return Ok(body);
                    }
                    let kind = self.statement()?;
                    self.expect(&Token::BlockEnd, "`%}`")?;
                    kind
                }
                _ if ends.is_empty() => return Ok(body),
                _ => {
                    return self.fail(format!(
                        "`{{% {} %}}` is missing",
                        ends.join(" %}` or `{% ")
                    ));
                }
            };
            body.push(Stmt { line, kind });
        }
    }

    /// A body with its end tag, up to the `%}` of that.
    fn body_to(&mut self, end: &str) -> Result<Body> {
        self.block_end()?;
        let body = self.body(&[end])?;
        self.next();
        Ok(body)
    }

    fn block_end(&mut self) -> Result<()> {
        self.expect(&Token::BlockEnd, "`%}`")
    }

    fn statement(&mut self) -> Result<StmtKind> {
        let name = self.expect_name()?;
        match &*name {
            "if" => self.if_statement(),
            "for" => self.for_statement(),
            "set" => self.set_statement(),
            "with" => self.with_statement(),
            "macro" => {
                let name = self.expect_name()?;
                let params = self.params()?;
                let def = self.macro_def(name, params, "endmacro")?;
                Ok(StmtKind::Macro(Box::new(def)))
            }
            "call" => self.call_statement(),
            "filter" => {
                let filters = self.filters()?;
                let body = self.body_to("endfilter")?;
                Ok(StmtKind::FilterBlock { filters, body })
            }
            "generation" => Ok(StmtKind::Generation(self.body_to("endgeneration")?)),
            "break" if self.loops > 0 => Ok(StmtKind::Break),
            "continue" if self.loops > 0 => Ok(StmtKind::Continue),
            "break" | "continue" => self.fail(format!("`{name}` outside of a loop")),
            // They would read other templates, and a model has one.
            "include" | "import" | "from" | "extends" | "block" => {
                self.fail(format!("`{name}` is not supported in chat templates"))
            }
            _ => self.fail(format!("unknown tag `{name}`")),
        }
    }

    fn if_statement(&mut self) -> Result<StmtKind> {
        let mut branches = Vec::new();
        let mut otherwise = Vec::new();
        loop {
            let test = self.expressions_without_if()?;
            self.block_end()?;
            branches.push((test, self.body(&["elif", "else", "endif"])?));
            if self.skip_name("elif") {
                continue;
            }
            if self.skip_name("else") {
                otherwise = self.body_to("endif")?;
            } else {
                self.next();
            }
            return Ok(StmtKind::If {
                branches,
                otherwise,
            });
        }
    }

    fn for_statement(&mut self) -> Result<StmtKind> {
        let target = self.target(false)?;
        if !self.skip_name("in") {
            return self.unexpected("`in`");
        }
        let items = self.expressions_without_if()?;
        let filter = match self.skip_name("if") {
            true => Some(self.expression()?),
            false => None,
        };
        if self.is_name("recursive") {
            return self.fail("recursive loops are not supported in chat templates");
        }
        self.block_end()?;
        self.loops += 1;
        let body = self.body(&["else", "endfor"]);
        self.loops -= 1;
        let body = body?;
        let otherwise = if self.skip_name("else") {
            self.body_to("endfor")?
        } else {
            self.next();
            Vec::new()
        };
        Ok(StmtKind::For(Box::new(For {
            target,
            items,
            filter,
            body,
            otherwise,
        })))
    }

    fn set_statement(&mut self) -> Result<StmtKind> {
        let target = self.target(true)?;
        if self.skip_operator("=") {
            let value = self.expressions()?;
            return Ok(StmtKind::Set { target, value });
        }
        let filters = match self.skip_operator("|") {
            true => self.filters()?,
            false => Vec::new(),
        };
        let body = self.body_to("endset")?;
        Ok(StmtKind::SetBlock {
            target,
            filters,
            body,
        })
    }

    fn filters(&mut self) -> Result<Vec<Call>> {
        let mut filters = vec![self.filter()?];
        while self.skip_operator("|") {
            filters.push(self.filter()?);
        }
        Ok(filters)
    }

    fn with_statement(&mut self) -> Result<StmtKind> {
        let mut bindings = Vec::new();
        while self.peek() != &Token::BlockEnd {
            if !bindings.is_empty() {
                self.expect_operator(",")?;
            }
            let target = Target::Name(self.expect_name()?);
            self.expect_operator("=")?;
            bindings.push((target, self.expression()?));
        }
        let body = self.body_to("endwith")?;
        Ok(StmtKind::With { bindings, body })
    }

    /// `(a, b=1)`, if it stands here.
    fn params(&mut self) -> Result<Vec<(String, Option<Expr>)>> {
        let mut params: Vec<(String, Option<Expr>)> = Vec::new();
        if !self.skip_operator("(") {
            return Ok(params);
        }
        while !self.skip_operator(")") {
            if !params.is_empty() {
                self.expect_operator(",")?;
            }
            let param = self.expect_name()?;
            let default = match self.skip_operator("=") {
                true => Some(self.expression()?),
                false if params.last().is_some_and(|(_, default)| default.is_some()) => {
                    return self.fail("a parameter without default follows one with a default");
                }
                false => None,
            };
            params.push((param, default));
        }
        Ok(params)
    }

    /// The body of a macro, with its end tag.
    fn macro_def(
        &mut self,
        name: String,
        params: Vec<(String, Option<Expr>)>,
        end: &str,
    ) -> Result<MacroDef> {
        // A loop around the definition is not one that the body runs in.
        let loops = std::mem::take(&mut self.loops);
        self.macros.push((false, false));
        let body = self.body_to(end);
        let (takes_varargs, takes_kwargs) = self.macros.pop().unwrap_or_default();
        self.loops = loops;
        Ok(MacroDef {
            name,
            params,
            body: body?,
            takes_varargs,
            takes_kwargs,
        })
    }

    /// The parameters of the body stand before the call: `{% call(item) list(items) %}`.
    fn call_statement(&mut self) -> Result<StmtKind> {
        let params = self.params()?;
        let call = self.expression()?;
        let caller = Box::new(self.macro_def("caller".to_owned(), params, "endcall")?);
        Ok(StmtKind::CallBlock { call, caller })
    }
}
