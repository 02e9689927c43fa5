//! An application that logs from wherever code of an author runs: what the tests of log lines start.

use statefun_core::prelude::*;

#[derive(Clone, Serialize, Deserialize, Message)]
#[message(typename = "logs/Order")]
struct Order {
    id: String,
    what: String,
}

/// Does what an order says.
#[stateful_function(typename = "logs/orders", accepts(Order, AsyncResult<String, String>))]
struct Orders {
    #[persisted]
    orders: PersistedValue<u64>,
}

impl Handle<Order> for Orders {
    fn handle(&mut self, order: Order, ctx: &mut Context<'_, Self>) -> HandlerResult {
        *self.orders += 1;
        tracing::info!(
            what = order.what,
            so_far = *self.orders,
            "an order\nof two lines"
        );
        ctx.counter("orders").label("what", &order.what).add(1);
        match order.what.as_str() {
            "panic" => panic!("it could\nnot be helped"),
            "fail" => Err(HandlerError::permanent("no \"such\" thing\n")),
            "ask" => {
                ctx.spawn(order.what, async {
                    tracing::info!("asking");
                    Ok::<_, String>("answer".to_owned())
                });
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

impl Handle<AsyncResult<String, String>> for Orders {
    fn handle(
        &mut self,
        asked: AsyncResult<String, String>,
        _: &mut Context<'_, Self>,
    ) -> HandlerResult {
        tracing::info!(outcome = ?asked.outcome, "asked");
        Ok(())
    }
}

#[router(ingress = "logs/orders", to(Orders))]
fn orders(order: Order, out: &mut Downstream<'_>) -> RouterResult {
    tracing::info!(id = order.id, "routed");
    out.forward(Orders::at(&order.id), order);
    Ok(())
}

fn main() -> statefun_core::Exit {
    statefun_core::main()
}
